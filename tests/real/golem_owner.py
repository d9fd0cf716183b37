"""Somebody who runs a Golem provider in a container and types commands of depin-orcha."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from loopback import Answer, Loopback, Request

from depin_orcha.demo import SimulatedOperator

PROVIDER = Path(__file__).parents[1] / "bin" / "ya-provider"
NODE = "golem_attic"


class Agent:
    """A daemon whose offers follow the provider's files, as the real agent's do; the rest is the simulated one's."""

    def __init__(self, operator: SimulatedOperator, data_dir: Path) -> None:
        self.upstream = operator.url(NODE)
        self.key = operator.secrets()[f"{NODE}.key"].strip()
        self.data_dir = data_dir
        self.busy = False

    def __call__(self, request: Request) -> Answer:
        if request.path == "/market-api/v1/offers":
            return _json(self.offers())
        if request.path.endswith("/_monitor"):
            activities = [{"id": "a", "state": "Ready", "agreementId": "b"}] if self.busy else []
            event = {"ts": "2026-11-22T19:43:51.719533665Z", "activities": activities}
            return Answer(200, f"data: {json.dumps(event)}\n\n".encode(), "text/event-stream", stream=True)
        if request.path == "/market-api/v1/agreements" and request.query.get("state") == "Approved":
            return _json([])
        headers = {"Authorization": f"Bearer {self.key}"}
        told = httpx.get(self.upstream + request.path, params=request.query, headers=headers, trust_env=False)
        return Answer(told.status_code, told.content, told.headers.get("content-type", ""))

    def offers(self) -> list[dict[str, Any]]:
        upstream = httpx.get(
            f"{self.upstream}/market-api/v1/offers", headers={"Authorization": f"Bearer {self.key}"}, trust_env=False
        ).json()
        hardware = json.loads((self.data_dir / "hardware.json").read_text())
        profile = hardware["profiles"][hardware["active"]]
        changed_s = (self.data_dir / "hardware.json").stat().st_mtime
        for offer in upstream:
            offer["timestamp"] = datetime.fromtimestamp(changed_s + 0.5, UTC).isoformat().replace("+00:00", "Z")
            offer["properties"] |= {
                "golem.inf.cpu.threads": profile["cpu_threads"],
                "golem.inf.mem.gib": profile["mem_gib"],
                "golem.inf.storage.gib": profile["storage_gib"],
            }
        return upstream


def _json(value: Any) -> Answer:
    return Answer(200, json.dumps(value).encode(), "application/json")


class Owner:
    """Types commands; the provider's own folder is named in the environment, as ya-provider wants it."""

    def __init__(self, folder: Path, agent: Agent) -> None:
        self.folder = folder
        self.agent = agent
        self.environment = os.environ | {"DATA_DIR": str(agent.data_dir), "HOME": str(folder)}

    def __call__(self, *words: str) -> dict[str, Any]:
        done = subprocess.run(self.words(*words), capture_output=True, text=True, env=self.environment, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)["data"]

    def words(self, *words: str) -> list[str]:
        argv = [sys.executable, "-m", "depin_orcha", *words, "--json"]
        return [*argv, "--config", str(self.folder / "config.toml"), "--db", str(self.folder / "orcha.db")]


@contextmanager
def golem_owner(folder: Path, runtime: str, socket: str) -> Iterator[Owner]:
    """The owner of golem_1, which runs in the container "golem" of the engine behind ``socket``."""
    now_s = int(time.time())
    with SimulatedOperator(now_s - 3 * 86_400) as operator:
        operator.advance(now_s)
        agent = Agent(operator, _provider(folder))
        with Loopback(agent) as daemon:
            (folder / "golem.key").write_text(agent.key)
            (folder / "config.toml").write_text(
                f'[prices]\nurl = "{operator.url("prices")}/api/v3"\nfallback_url = "{operator.url("prices")}"\n'
                "[optimize]\nlearning_days = 0\nmin_gain_usd_per_day = 0\nmin_dwell_h = 0\n"
                f'[apply]\n{runtime}_socket = "{socket}"\nverify_timeout_s = 5\n'
                "[hosts.local]\ncapacity = {cpu_cores = 2}\nreserve = {cpu_cores = 1}\n"
                f'[nodes.golem_1]\nprotocol = "golem"\nurl = "{daemon.url}"\napp_key_file = "golem.key"\n'
                f'apply = true\nruntime = "{runtime}"\ncontainer = "golem"\nprovider_command = ["{PROVIDER}"]\n'
            )
            yield Owner(folder, agent)


def _provider(folder: Path) -> Path:
    """The files of a provider whose owner offers both of two threads, in all presets."""
    folder = folder / "ya-provider"
    folder.mkdir()
    profile = {"cpu_threads": 2, "mem_gib": 4.0, "storage_gib": 20.0}
    (folder / "hardware.json").write_text(json.dumps({"active": "default", "profiles": {"default": profile}}))
    coefficients = {"golem.usage.cpu_sec": 6.9e-06, "golem.usage.duration_sec": 1.3e-06}
    preset = {"name": "vm", "exeunit-name": "vm", "pricing-model": "linear", "initial-price": 0.0}
    presets = {"ver": "V1", "active": ["vm"], "presets": [preset | {"usage-coeffs": coefficients}]}
    (folder / "presets.json").write_text(json.dumps(presets))
    (folder / "globals.json").write_text(json.dumps({"node_name": "test", "subnet": "public", "account": None}))
    return folder


def plan(owner: Owner) -> None:
    owner("collect")
    owner("forecast")
    made = owner("optimize")
    assert made["decision"] == "apply", made["reason"]
