"""Whatever is wrong: one clear sentence, the right exit code, and nothing lost."""

from __future__ import annotations

import re
import shutil
import socket
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path

import pytest
from loopback import Answer, Loopback, Wire
from operator_parts import START_S, Done, Place, integrity
from unix_engine import UnixEngine

from depin_orcha.demo import SimulatedOperator
from depin_orcha.types import HOUR_S

NOW_S = START_S + 6 * HOUR_S
CYCLE = ("collect", "forecast", "optimize", "apply", "heal", "run")
LOOK = ("status", "history")
OTHERS = ("import", "pause", "resume")
STORJ = '[nodes.storj_1]\nprotocol = "storj"\nurl = "http://127.0.0.1:9"\n'


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "earlier.csv").write_text("node,start,end,currency,amount\n")
    return Place(tmp_path)


@pytest.fixture(scope="module")
def operator() -> Iterator[SimulatedOperator]:
    with SimulatedOperator(START_S) as simulated:
        simulated.advance(NOW_S)
        yield simulated


def words(place: Place, verb: str) -> list[str]:
    return [str(place.folder / "earlier.csv")] if verb == "import" else []


def refused(place: Place, verb: str, code: int, kind: str) -> Done:
    """A verb that ends with ``code`` says why: in one line for people, in one failure for scripts."""
    done = place.json(verb, *words(place, verb), now=NOW_S, exits=code)
    assert (done.document["status"], done.data) == ("error", None)
    assert [failure["kind"] for failure in done.failures] == [kind]
    assert done.failures[0]["message"]
    plain = place(verb, *words(place, verb), now=NOW_S, exits=code)
    assert plain.out == ""
    assert plain.err == done.err
    assert re.fullmatch(r"(error: .+\n)+(hint: .+\n)?", plain.err)
    return done


# Configuration


@pytest.mark.parametrize("verb", [*CYCLE, *LOOK, *OTHERS])
@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, r"config\.toml: there is no such file"),
        ("[prices\n", r"config\.toml: not valid TOML.*line 1"),
        ("[nodes.storj_1]\nprotocol = 'storj'\ntoken = 'x'\n", r"nodes\.storj_1\.token: .*token_file"),
    ],
)
def test_configuration_that_cannot_be_used(place: Place, verb: str, text: str | None, told: str) -> None:
    if text is not None:
        place.config.write_text(text)
    assert re.search(told, refused(place, verb, 78, "config").err)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("raw_retention_day = 3\n", r"raw_retention_day: unknown key; did you mean raw_retention_days\?"),
        ("[price]\nurl = 'http://a'\n", r"price: unknown key; did you mean prices\?"),
        ("[prices]\nmax_ages = 3\n", r"prices\.max_ages: unknown key; did you mean max_age_s\?"),
        ("[optimize]\nlearning_day = 7\n", r"optimize\.learning_day: unknown key; did you mean learning_days\?"),
        ("[hosts.attic]\ncapacty = {}\n", r"hosts\.attic\.capacty: unknown key; did you mean capacity\?"),
        (STORJ + "deadlines = 3\n", r"nodes\.storj_1\.deadlines: unknown key; did you mean deadline_s\?"),
        (STORJ + "deadline_s = 'soon'\n", r"nodes\.storj_1\.deadline_s: .*number"),
        (STORJ + "apply = 'maybe'\n", r"nodes\.storj_1\.apply: .*boolean"),
        (STORJ + "host = 'shed'\n", r"nodes\.storj_1\.host: there is no section \[hosts\.shed\]"),
        ("[nodes.Storj-1]\nprotocol = 'storj'\n", r"nodes\.Storj-1: names are made of a-z, 0-9 and _"),
        ("[hosts.the-shed]\n", r"hosts\.the-shed: names are made of a-z, 0-9 and _"),
        ("[nodes.a]\nprotocol = 'stroj'\n", r"nodes\.a\.protocol: .*'stroj' is not known.*storj"),
        ("[nodes.a]\nurl = 'http://a'\n", r"nodes\.a\.protocol: expected the name of a protocol"),
        ("nodes = 3\n", r"nodes: .*dict"),
        ("[costs]\ntimezone = 'Berlin'\n", r"costs\.timezone: expected an IANA time zone"),
        ("[nodes.a]\nprotocol = 'storj'\nurl = '127.0.0.1:14002'\n", r"nodes\.a\.url: "),
        ("[nodes.a]\nprotocol = 'storj'\nurl = 'http://me:pw@127.0.0.1'\n", r"nodes\.a\.url: .*may not stand in a url"),
        ("[nodes.a]\nprotocol = 'golem'\napp_key = 's'\n", r"nodes\.a\.app_key: a secret may not stand in this file"),
        ("[prices]\napi_key = 's'\n", r"prices\.api_key: a secret may not stand in this file; .*api_key_file"),
        ("[prices]\nurl = 'https://me:pw@prices.example'\n", r"prices\.url: .*may not stand in a url"),
    ],
)
def test_every_fault_names_its_key(place: Place, text: str, told: str) -> None:
    place.config.write_text(text)
    done = refused(place, "collect", 78, "config")
    (line,) = [line for line in done.err.splitlines() if line.startswith("error")]
    assert re.search(f"config\\.toml: {told}", line), line
    assert "pw" not in done.err


def test_every_fault_has_a_line(place: Place) -> None:
    place.config.write_text("[prices]\nmax_ages = 3\n[optimize]\nmodle = 'default'\n[forecast]\nhorizon_h = 400\n")
    errors = [line for line in refused(place, "status", 78, "config").err.splitlines() if line.startswith("error")]
    assert len(errors) == 3


def test_configuration_that_is_no_text(place: Place) -> None:
    place.config.write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8 text" in refused(place, "collect", 78, "config").err


def test_environment_is_checked_too(place: Place) -> None:
    place.config.write_text(STORJ)
    done = place("collect", exits=78, DEPIN_ORCHA_PRICES__MAX_AGE_S="soon")
    assert "prices.max_age_s" in done.err


@pytest.mark.parametrize("verb", ["collect", "apply", "heal", "run"])
def test_no_node_configured(place: Place, verb: str) -> None:
    place.config.write_text("[costs]\ncurrency = 'USD'\n")
    assert "depin-orcha init" in refused(place, verb, 78, "config").err


@pytest.mark.parametrize("verb", ["forecast", "optimize"])
def test_no_node_anywhere(place: Place, verb: str) -> None:
    place.config.write_text("[costs]\ncurrency = 'USD'\n")
    assert "depin-orcha init" in refused(place, verb, 78, "config").err


def test_nodes_in_the_database_are_enough_to_forecast(place: Place) -> None:
    place.config.write_text("")
    rows = "node,start,end,currency,amount,protocol\nold,2026-10-29T00:00:00Z,2026-10-29T20:00:00Z,USD,4,storj\n"
    (place.folder / "earlier.csv").write_text(rows)
    place("import", *words(place, "import"), now=START_S)
    (forecast,) = place.json("forecast", now=START_S).data["forecasts"]
    assert forecast["node"] == "old"
    assert place.json("optimize", now=START_S).data["decision"] == "hold"


# Nothing there yet


def test_no_history_yet(place: Place) -> None:
    place.config.write_text(STORJ)
    assert place.json("forecast", now=NOW_S).data == {"forecasts": [], "outlook": [], "anomalies": []}
    plan = place.json("optimize", now=NOW_S).data
    assert plan["decision"] == "hold"
    assert plan["reason"]
    assert place.query("SELECT decision, reason FROM plans") == [("hold", plan["reason"])]
    applied = place.json("apply", now=NOW_S).data
    assert (applied["plan_id"], applied["changed"], applied["actions"]) == (plan["plan_id"], 0, [])


@pytest.mark.parametrize("database", ["missing", "empty"])
def test_looking_at_no_database(place: Place, database: str) -> None:
    place.config.write_text(STORJ)
    if database == "empty":
        place.db.touch()
    (node,) = place.json("status", now=NOW_S).data["nodes"]
    assert (node["node"], node["health"], node["usd_24h"]) == ("storj_1", "unknown", None)
    assert place.json("history", now=NOW_S).data == {"rows": []}
    assert place.db.exists() is (database == "empty")


def test_nothing_at_all_is_no_error(place: Place) -> None:
    place.config.write_text("")
    assert place.json("status", now=NOW_S).data["nodes"] == []
    assert "depin-orcha init" in place("status", now=NOW_S).out


# Plans


def test_apply_without_a_plan(place: Place) -> None:
    place.config.write_text(STORJ)
    assert "depin-orcha optimize" in refused(place, "apply", 65, "data").err


def test_apply_of_an_expired_plan(place: Place) -> None:
    place.config.write_text(STORJ)
    plan = place.json("optimize", now=NOW_S - 1801).data
    done = refused(place, "apply", 65, "data")
    assert plan["plan_id"] in done.err
    assert place.json("apply", now=NOW_S - 1).data["plan_id"] == plan["plan_id"]


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("substr(result_json, 1, 100)", "it is not JSON"),
        ("json_remove(result_json, '$.hosts')", "hosts: Field required"),
        ("json_set(result_json, '$.hosts[0].host', 'rack')", "host 'rack' is not in the problem"),
    ],
)
def test_apply_of_a_damaged_plan(place: Place, damage: str, told: str) -> None:
    place.config.write_text(STORJ)
    plan = place.json("optimize", now=NOW_S).data
    with closing(sqlite3.connect(place.db)) as connection, connection:
        connection.execute(f"UPDATE plans SET result_json = {damage}")
    for options in ((), ("--yes",)):
        done = place.json("apply", *options, now=NOW_S, exits=65)
        assert [(one["node"], one["kind"]) for one in done.failures] == [(None, "data")]
        assert done.failures[0]["message"].startswith(f"plan {plan['plan_id']} is damaged: {told}")
    place.json("optimize", now=NOW_S + 1)
    assert place.json("apply", "--yes", now=NOW_S + 1).data["actions"] == []


# State folder and database


@pytest.mark.parametrize("verb", ["collect", "forecast", "optimize", "heal", "run", "import", "pause", "resume"])
def test_state_folder_that_cannot_be_written(place: Place, verb: str) -> None:
    place.config.write_text(STORJ)
    done = place.process_without_rights(verb, *words(place, verb), "--json", now=NOW_S)
    assert done.code == 77
    assert (done.data, [failure["kind"] for failure in done.failures]) == (None, ["permission"])
    assert re.fullmatch(r"error: .*orcha\.db.*\nhint: .+\n", done.err)
    assert not place.db.exists()


def test_state_folder_below_a_file(place: Place) -> None:
    place.config.write_text(STORJ)
    place.db = place.config / "state" / "orcha.db"
    assert "config.toml" in refused(place, "collect", 77, "permission").err


def test_configuration_that_cannot_be_written(place: Place) -> None:
    done = place.process_without_rights("init", "--json")
    assert (done.code, done.failures[0]["kind"]) == (77, "permission")
    assert not place.config.exists()


def _foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (a)")
        connection.execute("INSERT INTO theirs VALUES ('precious')")
        connection.commit()


def _newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
        connection.commit()


def _no_database(path: Path) -> None:
    path.write_bytes(b"node,amount\n" * 1000)


def _cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20_000])


def _scratched(path: Path) -> None:
    """Sound where it is opened and where the one node is named, broken where the hours of the ledger lie."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO nodes VALUES ('storj_1', 'storj', 'local', 0, 'storj_1')")
        root, size = connection.execute(
            "SELECT rootpage, (SELECT page_size FROM pragma_page_size) FROM sqlite_master WHERE name = 'accruals'"
        ).fetchone()
    content = bytearray(path.read_bytes())
    content[(root - 1) * size : root * size] = b"\xff" * size
    path.write_bytes(content)


@pytest.mark.parametrize("verb", [*CYCLE, *LOOK, *OTHERS])
@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_no_database, "damaged"),
        (_cut_short, "damaged"),
        (_newer, "newer depin-orcha"),
        (_foreign, "some other program"),
    ],
)
def test_database_that_cannot_be_used(place: Place, verb: str, spoil: Callable[[Path], None], told: str) -> None:
    place.config.write_text(STORJ)
    if spoil is not _foreign:
        place("pause")
    spoil(place.db)
    before = place.db.read_bytes()
    assert told in refused(place, verb, 65, "data").err
    assert place.db.read_bytes() == before


@pytest.mark.parametrize("verb", ["status", "history", "forecast"])
def test_database_that_shows_its_damage_late(place: Place, verb: str) -> None:
    place.config.write_text(STORJ)
    place("pause")
    _scratched(place.db)
    assert "damaged" in refused(place, verb, 65, "data").err


def test_folder_in_place_of_a_database(place: Place) -> None:
    place.config.write_text(STORJ)
    place.db.mkdir()
    for verb in ("collect", "status"):
        assert "is a folder" in refused(place, verb, 65, "data").err


# Nodes


def _refusing() -> AbstractContextManager[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return nullcontext(f"http://127.0.0.1:{listener.getsockname()[1]}")


class _Url:
    """The url of a server that says one thing, as long as it is needed."""

    def __init__(self, server: Loopback | Wire) -> None:
        self._server = server

    def __enter__(self) -> str:
        return self._server.__enter__().url

    def __exit__(self, *_: object) -> None:
        self._server.__exit__()


def _saying(status: int, body: bytes, content_type: str = "application/json") -> Callable[[], _Url]:
    return lambda: _Url(Loopback(lambda _: Answer(status, body, content_type)))


HALF = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 400\r\n\r\n{"nodeID": "1'
FAULTS = {
    "refuses": (_refusing, "transient", "cannot reach"),
    "hangs": (lambda: _Url(Wire(30.0)), "transient", "did not answer"),
    "drips": (lambda: _Url(Wire(HALF, *[1.0, b" "] * 20)), "transient", "did not answer"),
    "shows a page": (_saying(200, b"<html><body>Router</body></html>", "text/html"), "shape", "a web page"),
    "cuts its json": (_saying(200, b'{"nodeID": "12', "application/json"), "shape", "broken JSON"),
    "hangs up": (lambda: _Url(Wire(HALF)), "shape", "broke off"),
    "knows no key": (_saying(401, b"Invalid application key", "text/plain"), "auth", "refused the credentials"),
    "fails": (_saying(500, b"oops", "text/plain"), "transient", "500"),
    "is challenged": (_saying(403, b"<html>Just a moment...</html>", "text/html"), "blocked", "challenge page"),
    "lacks a field": (_saying(200, b"{}"), "shape", "nodeID|satellites"),
    "says null": (_saying(200, b"null"), "shape", "object"),
}


def _beside(operator: SimulatedOperator, url: str) -> str:
    """A healthy storage node, and a second one at ``url``."""
    return (
        f'[prices]\nurl = "{operator.url("prices")}/api/v3"\nfallback_url = "{operator.url("prices")}"\n'
        f'[nodes.good]\nprotocol = "storj"\nurl = "{operator.url("storj_attic")}"\n'
        f'[nodes.bad]\nprotocol = "storj"\nurl = "{url}"\ndeadline_s = 1\n'
    )


@pytest.mark.parametrize("fault", FAULTS)
def test_node_that_cannot_be_read_costs_only_itself(place: Place, operator: SimulatedOperator, fault: str) -> None:
    server, kind, told = FAULTS[fault]
    with server() as url:
        place.config.write_text(_beside(operator, url))
        done = place.json("collect", now=NOW_S, exits=3)
        alone = place.json("collect", "--node", "bad", now=NOW_S + 1, exits=69)
        plain = place("collect", "--node", "bad", now=NOW_S + 1, exits=69)
    assert done.document["status"] == "partial"
    assert [(failure["node"], failure["kind"]) for failure in done.failures] == [("bad", kind)]
    assert re.search(told, done.failures[0]["message"]), done.failures
    assert f"error: bad: {done.failures[0]['message']}\n" in done.err
    assert plain.err.count("error: bad: ") == 1
    good, bad = done.data["nodes"]
    assert good["earnings"]
    assert good["health"]["status"] == "up"
    assert (bad["earnings"], bad["earned_since_previous"], bad["usage"]) == ([], None, {})
    assert bad["health"]["status"] == "unknown"
    assert alone.document["status"] == "error"
    assert alone.data["nodes"] == [bad | {"observed_at": alone.data["nodes"][0]["observed_at"]}]
    assert place.query("SELECT DISTINCT node FROM earnings_samples") == [("good",)]
    nodes = {node["node"]: node for node in place.json("status", now=NOW_S).data["nodes"]}
    assert (nodes["bad"]["failure_kind"], nodes["bad"]["last_seen"]) == (kind, None)
    assert (nodes["good"]["failure_kind"], nodes["good"]["held_usd"]) == (None, pytest.approx(4, abs=2))


def test_run_goes_on_when_nodes_fail(place: Place, operator: SimulatedOperator) -> None:
    with _refusing() as url:
        place.config.write_text(_beside(operator, url))
        partial = place.json("run", now=NOW_S, exits=3)
        assert {step["verb"]: step["exit_code"] for step in partial.data["verbs"]} == {
            "collect": 3, "forecast": 0, "optimize": 0, "apply": 0, "heal": 0,
        }  # fmt: skip
        place.config.write_text(STORJ)
        nothing = place.json("run", now=NOW_S + 1, exits=69)
    assert nothing.data["verbs"][0] == {"verb": "collect", "exit_code": 69}
    assert len(nothing.data["verbs"]) == 5
    assert nothing.failures[0]["node"] == "storj_1"


def test_key_that_cannot_be_read_costs_only_its_node(place: Place, operator: SimulatedOperator) -> None:
    place.configure(operator.config_toml(), operator.secrets())
    (place.folder / "golem_attic.key").unlink()
    (place.folder / "golem_rack.key").write_text("")
    done = place.json("collect", now=NOW_S, exits=3)
    assert {failure["node"]: failure["kind"] for failure in done.failures} == {
        "golem_attic": "config", "golem_rack": "config",
    }  # fmt: skip
    assert "golem_attic.key" in done.err
    assert len([node for node in done.data["nodes"] if node["earnings"]]) == 2


# Writing to the outside


def test_apply_without_yes_writes_nothing(place: Place, operator: SimulatedOperator) -> None:
    """The owner allows it, the plan wants it, and still nothing happens until --yes is given."""
    provider = place.folder / "ya-provider"
    provider.mkdir()
    stand_in = Path(__file__).parents[1] / "bin" / "ya-provider"
    environment = place.environment(DATA_DIR=str(provider))
    for command in ("profile update --name default --cpu-threads 4", "preset list", "config get"):
        subprocess.run([stand_in, *command.split()], env=environment, check=True, stdout=subprocess.DEVNULL)
    before = {path: path.read_bytes() for path in provider.iterdir()}
    rack = f'host = "rack"\nurl = "{operator.url("golem_rack")}"'
    here = f'apply = true\nmax_units = 1\nprovider_command = ["{stand_in}"]\n' + rack.partition("\n")[2]
    with UnixEngine(place.folder / "engine.sock", lambda *_: (404, {"message": "page not found"})) as engine:
        text = operator.config_toml().replace(rack, here).replace("learning_days = 7", "learning_days = 0")
        place.configure(f'[apply]\ndocker_socket = "{engine.socket}"\n{text}', operator.secrets())
        for verb in ("collect", "forecast"):
            place(verb, now=NOW_S)
        plan = place.json("optimize", now=NOW_S).data
        assert "golem_rack 4 -> 1 units" in plan["reason"]
        for options in ((), ("--dry-run",), ("--dry-run", "--yes")):
            done = place.json("apply", *options, now=NOW_S, DATA_DIR=str(provider)).data
            assert (done["plan_id"], done["mode"], done["changed"]) == (plan["plan_id"], "dry_run", 0)
            commands = [action["command"] for action in done["actions"] if action["state"] == "planned"]
            assert any(str(stand_in) in command and "--cpu-threads 1" in command for command in commands)
        ran = place.json("run", now=NOW_S, DATA_DIR=str(provider)).data
        assert [step["exit_code"] for step in ran["verbs"]] == [0] * 5
        assert engine.writes == []
    assert place.query("SELECT count(*) FROM actions") == [(0,)]
    assert {path: path.read_bytes() for path in provider.iterdir()} == before


def test_database_stays_sound_through_all_of_this(place: Place, operator: SimulatedOperator) -> None:
    with _refusing() as url:
        place.config.write_text(_beside(operator, url))
        for number in range(3):
            place("run", now=NOW_S + number, exits=3)
    assert integrity(place.db) == "ok"
    shutil.copy(place.db, place.folder / "copy.db")
    assert integrity(place.folder / "copy.db") == "ok"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--release", "--rollback"), "only one"),
        (("--rollback", "--reclaim", "storj_1"), "only one"),
        (("plan_1",), "--rollback"),
        (("--reclaim", "nobody"), "no node nobody"),
    ],
)
def test_what_apply_cannot_do_at_once(place: Place, words: tuple[str, ...], said: str) -> None:
    place.config.write_text(STORJ)
    done = place("apply", *words, exits=2)
    assert done.out == ""
    assert said in done.err


def test_a_plan_that_was_never_carried_out_is_not_rolled_back(place: Place) -> None:
    place.config.write_text(STORJ)
    done = place("apply", "--rollback", "nowhere", exits=65)
    assert "of plan nowhere nothing was carried out" in done.err
