"""``init``: a first configuration, with the nodes that answer on this machine."""

from __future__ import annotations

from pathlib import Path

from .cycle import Result
from .errors import AdapterError, ConfigError, NotPermitted
from .net import HttpClient

_PROBE_S = 2

_HEAD = """\
# depin-orcha: what there is on this machine. Every option is explained in config.example.toml.
# Nothing is ever changed on a node without `apply = true` here and --yes on the command line.

[costs]
currency = "USD"
# electricity_per_kwh = 0.30

[hosts.local]
reserve = {cpu_cores = 1}

"""

_FOUND = {
    "storj": (
        "http://127.0.0.1:14002",
        "/api/sno/",
        '[nodes.storj_1]\nprotocol = "storj"\nurl = "http://127.0.0.1:14002"\n',
    ),
    "golem": (
        "http://127.0.0.1:7465",
        "/version/get",
        """\
[nodes.golem_1]
protocol = "golem"
url = "http://127.0.0.1:7465"
app_key_file = "golem_1.key"  # put the output of: yagna app-key create depin-orcha
""",
    ),
}


def write_config(path: Path, *, force: bool) -> Result:
    """A configuration file at ``path`` that loads as it is; one that exists is kept unless ``force``."""
    if path.exists() and not force:
        raise ConfigError(f"{path}: exists already and was left as it is", "edit it, or replace it with --force")
    found = [protocol for protocol in _FOUND if _answers(protocol)]
    text = _HEAD
    for protocol, (_, _, section) in _FOUND.items():
        commented = "".join(f"# {line}\n" for line in section.splitlines())
        text += (section if protocol in found else f"# no {protocol} node answered here\n{commented}") + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            path.replace(path.with_name(f"{path.name}.bak"))
        new = path.with_name(f"{path.name}.new")
        new.write_text(text, encoding="utf-8")
        new.chmod(0o600)
        new.replace(path)
    except OSError as error:
        raise NotPermitted(f"cannot write {path} ({error.strerror})", "name another file with --config") from error
    return Result({"paths": [str(path)], "found": found})


def _answers(protocol: str) -> bool:
    url, path, _ = _FOUND[protocol]
    try:
        with HttpClient(_PROBE_S) as http:
            http.get_json(url + path)
    except AdapterError:
        return False
    return True
