"""Grass is asked with restraint: what it refuses is not tried again, whatever is typed; one account, never a second."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loopback import Answer, Loopback, broken, sample
from operator_parts import Done, Place

from depin_orcha.timefmt import parse_rfc3339, rfc3339
from depin_orcha.types import HOUR_S

EARNING = Path(__file__).parents[1] / "samples" / "grass" / "2026-11" / "earning"
NOW_S = parse_rfc3339("2026-11-22T18:05:00Z")
TOKEN = "made.up.token"
OTHER = "made.up.again"
PAGE = Answer(403, b"<html>Just a moment...</html>", "text/html")
BUSY = Answer(429, b'{"error": {"message": "Too many requests"}}', "application/json")
REFUSED = Answer(401, b'{"error": {"message": "Unauthorized"}}', "application/json")


class Account:
    """A configured Grass account, which a test can break."""

    def __init__(self, place: Place, server: Loopback) -> None:
        self.place = place
        self.server = server
        self.section = f'[nodes.grass_1]\nprotocol = "grass"\nurl = "{server.url}"\ntoken_file = "token"\n'
        place.configure(self.section, {"token": TOKEN})
        self.repair()

    def fail(self, answer: Answer, only: str | None = None) -> None:
        self.server.respond = broken(sample(EARNING), answer, only=only)

    def repair(self) -> None:
        self.server.respond = sample(EARNING)

    def collect(self, now: int, *words: str, exits: int = 0, **env: str) -> tuple[Done, int]:
        """What a collect says, and how many questions the network heard."""
        before = len(self.server.requests)
        done = self.place.json("collect", *words, now=now, exits=exits, **env)
        return done, len(self.server.requests) - before

    def status(self, now: int) -> dict[str, Any]:
        return self.place.json("status", now=now).data["nodes"][0]


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    with Loopback(lambda _: Answer(500)) as server:
        yield Account(Place(tmp_path), server)


def test_challenge_page_is_left_alone_for_six_hours(account: Account) -> None:
    account.collect(NOW_S)
    account.fail(PAGE)
    failed, asked = account.collect(NOW_S + 900, exits=69)
    assert asked == 1
    until_s = NOW_S + 900 + 6 * HOUR_S
    account.repair()
    for now_s in (NOW_S + 901, NOW_S + HOUR_S, until_s - 1):
        skipped, asked = account.collect(now_s, exits=69)
        assert asked == 0
        (before,), (after,) = failed.failures, skipped.failures
        assert (after["node"], after["kind"], after["message"]) == ("grass_1", "blocked", before["message"])
        assert f"not asked again before {rfc3339(until_s)}" in after["message"]
        (node,) = skipped.data["nodes"]
        assert (node["health"]["status"], node["earnings"]) == ("unknown", [])
        shown = account.status(now_s)
        assert (shown["health"], shown["failure_kind"], shown["reason"]) == ("unknown", "blocked", after["message"])
        assert shown["last_seen"] == rfc3339(NOW_S)
    assert account.place.query("SELECT count(*) FROM health_samples") == [(2,)]
    _, asked = account.collect(until_s)
    assert asked == 3
    assert account.place.query("SELECT * FROM backoffs") == []


def test_other_nodes_are_read_meanwhile(account: Account) -> None:
    says = json.dumps({"earnings": [], "health": {"status": "up", "reason": "fine"}})
    relay = f'[nodes.relay]\nprotocol = "exec"\ncommand = {json.dumps(["printf", "%s", says])}\ncurrencies = ["USD"]\n'
    account.place.configure(account.section + relay)
    account.fail(PAGE)
    for now_s in (NOW_S, NOW_S + 900):
        done, _ = account.collect(now_s, exits=3)
        assert [(one["node"], one["kind"]) for one in done.failures] == [("grass_1", "blocked")]
        assert [one["health"]["status"] for one in done.data["nodes"]] == ["unknown", "up"]


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"Retry-After": "120"}, 120),
        ({}, 30),
        ({"Retry-After": "later"}, 30),
        ({"Retry-After": "Sun, 22 Nov 2026 18:15:00 GMT", "Date": "Sun, 22 Nov 2026 18:05:00 GMT"}, 600),
        ({"Retry-After": "99999999"}, 24 * HOUR_S),
    ],
)
def test_rate_limit_is_kept_over_runs(account: Account, headers: dict[str, str], wait_s: int) -> None:
    account.fail(Answer(BUSY.status, BUSY.body, BUSY.content_type, headers))
    done, asked = account.collect(NOW_S, exits=69)
    assert (asked, done.failures[0]["kind"]) == (1, "transient")
    account.repair()
    done, asked = account.collect(NOW_S + wait_s - 1, exits=69)
    assert (asked, done.failures[0]["kind"]) == (0, "transient")
    assert rfc3339(NOW_S + wait_s) in done.failures[0]["message"]
    assert account.collect(NOW_S + wait_s)[1] == 3


def test_rate_limit_ends_the_questions(account: Account) -> None:
    account.fail(BUSY, only="/activeDevices")
    done, asked = account.collect(NOW_S, exits=69)
    assert (asked, done.data["nodes"][0]["earnings"]) == (2, [])


def test_refused_token_is_never_shown_again(account: Account) -> None:
    account.fail(REFUSED)
    done, asked = account.collect(NOW_S, exits=69)
    assert (asked, done.failures[0]["kind"]) == (1, "auth")
    assert "copy accessToken" in done.failures[0]["hint"]
    account.repair()
    for now_s in (NOW_S + 1, NOW_S + 400 * 24 * HOUR_S):
        done, asked = account.collect(now_s, exits=69)
        assert (asked, done.failures[0]["kind"]) == (0, "auth")
        assert "not asked again before the credentials change" in account.status(now_s)["reason"]
    token = account.place.folder / "token"
    token.write_text(f"{TOKEN}\n")
    assert account.collect(NOW_S + 900, exits=69)[1] == 0, "the same token, written again"
    token.write_text(OTHER)
    assert account.collect(NOW_S + 901)[1] == 3
    token.write_text(TOKEN)
    assert account.collect(NOW_S + 1800)[1] == 3
    assert TOKEN.encode() not in b"".join(path.read_bytes() for path in account.place.folder.glob("orcha.db*"))


def test_token_of_the_environment_counts_too(account: Account) -> None:
    account.fail(REFUSED)
    variable = "DEPIN_ORCHA_NODES__GRASS_1__TOKEN"
    account.collect(NOW_S, exits=69, **{variable: OTHER})
    assert account.collect(NOW_S + 60, exits=69, **{variable: OTHER})[1] == 0
    account.repair()
    assert account.collect(NOW_S + 120)[1] == 3


def test_it_is_held_back_however_it_is_asked(account: Account) -> None:
    account.fail(PAGE)
    account.collect(NOW_S, exits=69)
    account.repair()
    assert account.collect(NOW_S + 60, "--node", "grass_1", exits=69)[1] == 0
    before = len(account.server.requests)
    account.place.json("run", "--yes", now=NOW_S + 120, exits=69)
    assert len(account.server.requests) == before


def test_trouble_that_passes_is_asked_again_by_the_next_run(account: Account) -> None:
    account.fail(Answer(502, b"", "text/plain"))
    for now_s in (NOW_S, NOW_S + 60):
        done, asked = account.collect(now_s, exits=69)
        assert (asked, done.failures[0]["kind"]) == (1, "transient")
    assert account.place.query("SELECT * FROM backoffs") == []


def test_no_other_network_is_held_back(account: Account) -> None:
    section = account.section.replace("grass_1", "storj_1").replace('"grass"', '"storj"').replace("token_file", "# ")
    account.place.configure(section)
    for answer in (Answer(429, b"", "text/plain", {"Retry-After": "600"}), PAGE, REFUSED):
        account.fail(answer)
        for now_s in (NOW_S, NOW_S + 60):
            assert account.collect(now_s, exits=69)[1] >= 1


def test_complaint_about_the_question_is_no_refusal_of_the_token(account: Account) -> None:
    said = {"error": {"message": "Unexpected token < in JSON at position 0"}}
    account.fail(Answer(400, json.dumps(said).encode(), "application/json"))
    done, _ = account.collect(NOW_S, exits=69)
    assert done.failures[0]["kind"] == "shape"
    assert account.collect(NOW_S + 60, exits=69)[1] == 1


def test_clock_that_went_back_holds_nothing(account: Account) -> None:
    """What happens later is not known yet."""
    account.fail(PAGE)
    account.collect(NOW_S + 300 * 24 * HOUR_S, exits=69)
    account.repair()
    assert account.collect(NOW_S)[1] == 3


def test_second_account_is_refused_in_one_sentence(account: Account) -> None:
    account.place.configure(account.section + account.section.replace("grass_1", "grass_2"))
    for verb in ("collect", "status"):
        done = account.place(verb, exits=78)
        assert (
            "nodes.grass_2: nodes.grass_1 is a grass node already, and only one account, your own, is read" in done.err
        )
    assert account.server.requests == []


def test_init_never_adds_an_account(account: Account) -> None:
    place = Place(account.place.folder / "new")
    place.folder.mkdir()
    place("init")
    assert "grass" not in place.config.read_text().lower()
