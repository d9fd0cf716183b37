"""``doctor``: what stands in the way of a good run, each finding with what mends it. Nothing is changed by looking."""

from __future__ import annotations

import getpass
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from . import actuators, commands, database
from .acting import authorization, target_of
from .adapters import NodeOptions, adapter_class
from .collect import Unread, read_node
from .cycle import Job, Result
from .errors import ActuatorError, AdapterError, ConfigError, ExitCode, FailureKind, OrchaError
from .heal import State
from .outside import Outside
from .roster import first_of_account
from .supervisors import Place, look
from .types import Failure, HealthStatus, Resource

LEAST_FREE_BYTES = 256 * 2**20
_THREADS = 16
_ROOT_ONLY = {
    "systemd": "set limits of units",
    "process": "move a process into a control group",
    "traffic": "shape the traffic of a container",
    "uplink": "shape what a unit sends",
}
"""What nobody but root may do, by the back end that does it."""


@dataclass(frozen=True, slots=True)
class Check:
    """One finding; ``result`` is ok, warn or fail, and ``fix`` what mends it: a command, or what to write where."""

    name: str
    result: str
    detail: str
    node: str | None = None
    fix: str = ""
    kind: FailureKind = FailureKind.CONFIG


def doctor(job: Job) -> Result:
    """Every check that is worth making here; exit code 3 when one failed."""
    checks = [*_configuration(job), *_database(job.database), *_nodes(job), *_rights(job)]
    failures = [Failure(one.node, one.kind, one.detail, one.fix) for one in checks if one.result == "fail"]
    data = {
        "checks": [
            {"name": one.name, "node": one.node, "result": one.result, "detail": one.detail, "fix": one.fix}
            for one in checks
        ]
    }
    return Result(data, failures, ExitCode.PARTIAL if failures else ExitCode.OK)


def _configuration(job: Job) -> Iterator[Check]:
    nodes, where = len(job.config.nodes), job.config.path or "no file"
    if not nodes:
        fix = "describe your nodes there" if job.config.path else "depin-orcha init"
        yield Check("configuration", "fail", f"no node is configured ({where})", fix=fix)
    else:
        yield Check("configuration", "ok", f"{where}: {nodes} {'node' if nodes == 1 else 'nodes'}")


def _database(path: Path) -> Iterator[Check]:
    folder = next(one for one in (path.absolute().parent, *path.absolute().parents) if one.exists())
    try:
        with database.open_for_reading(path) as connection:
            if connection is None:
                yield Check("database", "ok", f"{path}: not there yet, the first collect makes it")
            elif (said := connection.execute("PRAGMA quick_check").fetchone()[0]) == "ok":
                yield Check("database", "ok", f"{path}: sound")
            else:
                fix = "stop the schedule and put a backup in its place"
                yield Check("database", "fail", f"{path}: {said}", fix=fix, kind=FailureKind.DATA)
    except OrchaError as error:
        yield Check("database", "fail", error.message, fix=error.hint, kind=error.kind)
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        fix = f"run as its owner, or: sudo chown -R {getpass.getuser()} {folder}"
        yield Check("state folder", "fail", f"{folder} cannot be written", fix=fix, kind=FailureKind.PERMISSION)
    free = shutil.disk_usage(folder).free
    result = "ok" if free >= LEAST_FREE_BYTES else "warn"
    fix = "" if result == "ok" else "make room, or name a database on another disk with --db"
    yield Check("disk", result, f"{free / 1e9:.1f} GB free for the database", fix=fix)


def _nodes(job: Job) -> Iterator[Check]:
    """Every node read once, as ``collect`` does, and nothing stored."""
    accounts = {name: (one.protocol, one.account) for name, one in job.config.nodes.items()}
    booked_on = first_of_account(accounts)
    pool = ThreadPoolExecutor(_THREADS)
    try:
        readings = {
            name: pool.submit(read_node, job, name, options, None, None)
            for name, options in job.config.nodes.items()
            if job.wanted(name) and booked_on[name] == name
        }
        for name, reading in readings.items():
            read = reading.result()
            if isinstance(read, Unread):
                why = read.failure
                yield Check("node", "fail", why.message, name, why.hint, why.kind)
                continue
            status, reason = read.health.status, read.health.reason
            result = {HealthStatus.UP: "ok", HealthStatus.DOWN: "fail"}.get(status, "warn")
            fix = "start it, or look at its log" if result == "fail" else ""
            yield Check("node", result, f"{status}: {reason}", name, fix, FailureKind.TRANSIENT)
            for text in read.warnings:
                yield Check("node", "warn", text, name)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        commands.kill_all()


def _rights(job: Job) -> Iterator[Check]:
    """Of each node that may be acted on here: can it be, and if not, what is missing."""
    backends = actuators.actuators()
    with Outside(partial(authorization, job.config), any_engine=True) as outside:
        for name, options in job.config.nodes.items():
            if not job.wanted(name) or options.host != "local" or not (options.apply or options.heal):
                continue
            target = target_of(job.config, name, options)
            kinds = actuators.kinds(target, backends, _granted(options)) if options.apply else ()
            found = [one for kind in kinds if (one := _lacking(kind, target, outside, backends)) is not None]
            if options.heal and (one := _unhealable(job, name, options, outside)) is not None:
                found.append(one)
            if options.apply and not kinds:
                fix = f"say what runs it: runtime, and container, unit or process, in [nodes.{name}]"
                found.append(Check("rights", "warn", "nothing here can set limits of it", name, fix))
            yield from found
            if not found:
                verbs = " and ".join(verb for verb in ("apply", "heal") if getattr(options, verb))
                how = f" ({', '.join(kinds)})" if kinds else ""
                yield Check("rights", "ok", f"{verbs} can act on it{how}", name)


def _granted(options: NodeOptions) -> Iterable[Resource]:
    """What a plan grants the node."""
    return options.uses_per_unit or adapter_class(options.protocol).uses_per_unit


def _lacking(kind: str, target: actuators.Target, outside: Outside, backends: actuators.Actuators) -> Check | None:
    """What keeps a back end from acting on a node."""
    try:
        observed = backends[kind].read(target, outside)
    except (ActuatorError, AdapterError, ConfigError) as error:
        return Check("rights", "fail", f"{kind}: {error.message}", target.node, error.hint, error.kind)
    if kind in _ROOT_ONLY and os.geteuid() != 0:
        fix = "sudo depin-orcha apply --yes, also in the schedule; collect, forecast and optimize need no rights"
        detail = f"{kind}: only root may {_ROOT_ONLY[kind]}"
        return Check("rights", "fail", detail, target.node, fix, FailureKind.PERMISSION)
    file = getattr(target.options, "config_path", None)
    if kind == "storj" and file is not None and os.geteuid() not in (0, os.stat(file).st_uid):  # noqa: PTH116
        fix = "sudo depin-orcha apply --yes, also in the schedule"
        detail = f"storj: only root, or the owner of {file}, may replace it"
        return Check("rights", "fail", detail, target.node, fix, FailureKind.PERMISSION)
    hindrance = getattr(observed, "hindrance", "")
    if hindrance:
        return Check("rights", "warn", f"{kind}: {hindrance}", target.node, "apply tells the command")
    return None


def _unhealable(job: Job, name: str, options: NodeOptions, outside: Outside) -> Check | None:
    engines = job.config.settings.apply
    place = Place(options, engines.docker_socket, engines.podman_socket)
    if not place.is_here:
        fix = f"say what runs it: runtime, and container or unit, in [nodes.{name}]"
        return Check("rights", "warn", "nothing here can restart it", name, fix)
    try:
        runner = look(place, outside)
    except ActuatorError as error:
        return Check("rights", "fail", error.message, name, error.hint, error.kind)
    if options.runtime == "systemd" and os.geteuid() != 0:
        fix = "sudo depin-orcha heal --yes, also in the schedule"
        return Check("rights", "fail", "only root may restart units", name, fix, FailureKind.PERMISSION)
    if runner.state is State.GONE:
        return Check("rights", "fail", runner.said, name, "check its name", FailureKind.CONFIG)
    return None
