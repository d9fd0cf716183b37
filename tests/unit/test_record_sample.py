"""A recorded sample reads as the node did, and nobody can tell whose node it was."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from loopback import Answer, Loopback, Request, sample
from sample_cases import Case, baselines, shown

from depin_orcha.adapters import adapter_class
from depin_orcha.net import HttpClient

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "scripts" / "record_sample.py"
WALLET = "0x4bF1e0D4A5c0fE2cC0f4D1A2B3c4D5e6F7a8B9c0"
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJl-x_1"
SATELLITE = "12EayRS2V1kEsWESU9QMRseFhdxYxKicsiFmxrsLZHeLUtdps3S"


def scrubber(salt: bytes = b"salt", *words: str) -> Any:
    spec = spec_from_file_location("scrub", PROGRAM.with_name("scrub.py"))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Scrubber(salt, words)


TELLING = {
    "an e-mail": "jane.doe+node@provider.example.net",
    "an address": "84.113.22.9",
    "an address at home": "192.168.1.20",
    "an IPv6 address": "2a02:8388:1:2::9",
    "a wallet": WALLET,
    "a transaction": "0x" + "9f" * 32,
    "a node id": SATELLITE,
    "an agreement": "ce179290fb4ed512e1a21708848da5cbae3aaa6dd722a3a4551537e1a3f6058c",
    "a UUID": "a960c083-a485-34fe-0e8a-5299f26bfa54",
    "a token": TOKEN,
    "a public key": "PUBKEYEXAMPLE0000000000000000000000000000001",
}
HARMLESS = [
    "2026-11-22T19:30:05.123456417+01:00", "erc20-polygon-glm", "golem.com.pricing.model.linear.coeffs", "0.17.6",
    "123456789012345678901234567890", "0.264448791131944429", "127.0.0.1:14002", "::1", "19:30:05", "Epoch 25",
    "us1.storj.io:7777", "egressRepairAuditPayout", "SETTLED", "std::io::Error",
    "0x" + "0" * 48 + "0de0b6b3a7640000", "0x0000000000000de0b6b3a764",
]  # fmt: skip


@pytest.mark.parametrize("text", TELLING.values(), ids=TELLING)
def test_what_tells_is_replaced_by_its_like(text: str) -> None:
    one = scrubber()
    made = one.text(text)
    assert made != text
    assert one.text(f"see {text}, and {text}") == f"see {made}, and {made}", "the same everywhere"
    assert scrubber().text(text) == made, "the same in every run"
    assert scrubber(b"other salt").text(text) != made, "but not without the salt"
    assert (len(made) == len(text) or "@" in text or "." in text or ":" in text) is True
    assert one.text(f'"{text}"') == f'"{made}"'


@pytest.mark.parametrize("text", HARMLESS)
def test_what_does_not_tell_stays(text: str) -> None:
    body = json.dumps({"value": text, text: [text]})
    assert scrubber().body(body) == body


def test_name_of_a_field_may_hold_a_few_digits() -> None:
    body = json.dumps({"bandwidthOfTheLast30Days": 1, SATELLITE: 2})
    assert next(iter(json.loads(scrubber().body(body)))) == "bandwidthOfTheLast30Days"
    assert SATELLITE not in scrubber().body(body)


def test_upper_and_lower_case_of_an_address_stay_one_address() -> None:
    one = scrubber()
    assert one.text(WALLET).lower() == one.text(WALLET.lower())
    assert one.text(WALLET) != one.text(WALLET.lower())
    padded = "0x" + "0" * 24 + WALLET.removeprefix("0x").lower()
    assert one.text(padded) == "0x" + "0" * 24 + one.text(WALLET.lower()).removeprefix("0x")


def test_texts_under_telling_keys_are_replaced_everywhere() -> None:
    body = (
        '{ "userId": 4711223, "id": 7, "apiKey":"short one", "x": [{"walletAddress": "sol9"}], "tokenEnds": "never" }'
    )
    one = scrubber(b"salt", "Villa Rosa")
    one.learn(body)
    made = one.body(body)
    read = json.loads(made)
    assert (read["id"], read["tokenEnds"]) == (7, "never")
    assert re.fullmatch(r"[a-z]{5} [a-z]{3}", read["apiKey"])
    assert len(str(read["userId"])) == 7
    assert read["userId"] != 4711223
    assert read["x"][0]["walletAddress"] != "sol9"
    assert re.sub(r"\w", "", made) == re.sub(r"\w", "", body), "not a space has moved"
    assert one.text("short one in Villa Rosa").startswith(read["apiKey"] + " in ")
    assert "Villa Rosa" not in one.text("short one in Villa Rosa")


def test_numbers_keep_every_digit() -> None:
    body = '{"amount": 0.1800038202986111000, "wei": 123456789012345678901, "small": 1E-18}'
    assert scrubber().body(body) == body


def record(*words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(PROGRAM), *words]
    return subprocess.run(argv, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False, timeout=60)


def config(place: Path, case: Case, url: str) -> Path:
    options = case.options(url)
    for name, secret in case.secrets().items():
        (place / name).write_text(secret)
        options[f"{name}_file"] = str(place / name)
        del options[name]
    lines = [f"{key} = {json.dumps(value)}" for key, value in options.items()]
    (place / "config.toml").write_text("\n".join(["[nodes.node_1]", *lines, ""]))
    return place / "config.toml"


def over_http() -> list[Case]:
    return [case for case in baselines() if not case.meta.get("questions") and case.protocol != "exec"]


@pytest.mark.parametrize("case", over_http(), ids=lambda case: case.protocol)
def test_recorded_sample_reads_as_the_node_did(case: Case, tmp_path: Path) -> None:
    """With other names for everything: the same amounts, of as many series."""
    into = tmp_path / "samples"
    with Loopback(sample(case.folder)) as server:
        words = ["--config", str(config(tmp_path, case, server.url)), "--node", "node_1"]
        done = record(case.protocol, "9.9", "all-well", *words, f"--into={into}", f"--salt-file={tmp_path / 'salt'}")
        assert done.returncode == 0, done.stderr
    recorded = into / case.protocol / "9.9" / "all-well"
    written = "".join(path.read_text() for path in recorded.iterdir())
    assert not [secret for secret in case.secrets().values() if secret in written]
    assert server.url not in written
    assert (tmp_path / "salt").stat().st_mode & 0o077 == 0
    meta = tomllib.loads((recorded / "meta.toml").read_text())
    adapter = adapter_class(case.protocol)
    with Loopback(sample(recorded)) as replay, HttpClient() as http:
        given = json.loads(json.dumps(meta["options"]).replace("{url}", replay.url))
        options = adapter.Options.model_validate({"protocol": case.protocol, **given})
        read = shown(adapter("node_1", options).collect(http, case.now_s, None))
    whole = case.expected
    assert sorted(one["amount"] for one in read["earnings"]) == sorted(one["amount"] for one in whole["earnings"])
    assert read["standings"] == whole["standings"]
    assert (read["health"]["status"], read["usage"]) == (whole["health"]["status"], whole["usage"])
    series = [{one["external_id"] for one in side["earnings"]} for side in (read, whole)]
    assert len(series[0]) == len(series[1])


def answer(request: Request) -> Answer:
    if request.headers.get("authorization") != f"Bearer {TOKEN}":
        return Answer(401, b"no", "text/plain")
    if request.path == "/page":
        return Answer(200, f"<p>mail jane@provider.example.net from 84.113.22.9 {TOKEN}</p>".encode(), "text/html")
    if request.path.startswith("/nodes/"):
        return Answer(503, json.dumps({"node": SATELLITE, "wallet": WALLET, "paid": 1.50}).encode(), "application/json")
    return Answer(200, b'{"id": 7}', "application/vnd.node+json")


def test_paths_of_a_node_without_an_adapter(tmp_path: Path) -> None:
    (tmp_path / "header").write_text(f"Authorization: Bearer {TOKEN}\n")
    with Loopback(answer) as server:
        words = [f"--url={server.url}", f"--header-file={tmp_path / 'header'}", f"--salt-file={tmp_path / 'salt'}"]
        words += [f"--into={tmp_path}", "/page", f"/nodes/{SATELLITE}?owner={WALLET}", "/state"]
        done = record("relay", "1.4", "first", *words)
        assert done.returncode == 0, done.stderr
        assert "transient" in done.stderr
        again = record("relay", "1.4", "first", *words)
        assert (again.returncode, "exists already" in again.stderr) == (1, True)
    folder = tmp_path / "relay" / "1.4" / "first"
    written = {path.name: path.read_text() for path in folder.iterdir()}
    everything = "".join(written.values())
    for secret in (TOKEN, WALLET, SATELLITE, "jane@provider.example.net", "84.113.22.9"):
        assert secret not in everything
    routes = tomllib.loads(written["routes.toml"])
    (path,) = [name for name in routes if name.startswith("/nodes/")]
    node = json.loads(written[routes[path]["file"]])
    assert path == f"/nodes/{node['node']}?owner={node['wallet']}", "the same replacement in paths and bodies"
    assert '"paid": 1.5' in written[routes[path]["file"]]
    assert routes[path]["status"] == 503
    assert routes["/state"]["content_type"] == "application/vnd.node+json"
    assert routes["/page"] == {"file": "page.html"}
    assert "options" not in tomllib.loads(written["meta.toml"])


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["relay", "1.4", "first"], 2, "give either --node, or --url and its paths"),
        (["relay", "../1.4", "first", "--url=http://127.0.0.1:9", "/x"], 1, "cannot be a folder"),
        (["relay", "1.4", "first", "--url=http://127.0.0.1:9", "/x"], 1, "nothing was answered"),
        (["relay", "1.4", "first", "--node=x", "--config=/nowhere"], 1, "has no node x"),
    ],
)
def test_mistakes_are_named(words: list[str], code: int, says: str, tmp_path: Path) -> None:
    done = record(*words, f"--into={tmp_path / 'samples'}", f"--salt-file={tmp_path / 'salt'}")
    assert (done.returncode, says in done.stderr) == (code, True), done.stderr
    assert not (tmp_path / "samples").exists()
