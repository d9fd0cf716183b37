"""What the tests of healing share: patients as they fall, and a clock."""

from __future__ import annotations

from typing import Any

from depin_orcha.anomalies import Contact, Episode, Kind, Severity
from depin_orcha.heal import Decision, Limits, Patient, Restart, Runner, State, decide
from depin_orcha.types import DAY_S, HOUR_S

NOW_S = 1_795_000_000
LIMITS = Limits()
RUNS = Runner(State.RUNNING, "its container runs", started_s=NOW_S - 7 * DAY_S)
FELL = Runner(State.CRASHED, "exit code 1", started_s=NOW_S - 7 * DAY_S, ended_s=NOW_S - HOUR_S)


def silent(for_s: int = 2 * HOUR_S, readings: int = 8, kind: str | None = "transient", **more: Any) -> Contact:
    """A node that has not answered for so long, or has failed in another way."""
    good_s = NOW_S - for_s - 900
    status = "down" if kind is None else "unknown"
    return Contact(NOW_S - 60, good_s, NOW_S - for_s, readings, kind, status, "it does not answer", **more)


def patient(node: str = "myst_1", protocol: str = "mysterium", **more: Any) -> Patient:
    """A node that runs and has not answered for two hours, which its owner allows to be restarted."""
    known: dict[str, Any] = {"host": "local", "source": node, "contact": silent(), "runner": RUNS, "consent": True}
    return Patient(node=node, protocol=protocol, **(known | more))


def frozen_episode(**more: Any) -> Episode:
    """Its node answers, and has told just the same for longer than ever."""
    told: dict[str, Any] = {"hours_unchanged": 9, "hours_without_income": 9}
    known: dict[str, Any] = {"cause": "income", "kind": Kind.STALE_READING, "evidence": told, "learned_s": NOW_S}
    known |= {"node": "myst_1", "since_s": NOW_S - 9 * HOUR_S, "severity": Severity.WARNING, "score": 2.0}
    return Episode(**(known | more))


def restarted(*ago_s: int, node: str = "myst_1", host: str = "local", source: str | None = None) -> list[Restart]:
    """Restarts of a node so many seconds ago."""
    return [Restart(node, host, source or node, NOW_S - one) for one in ago_s]


def judge(one: Patient, *others: Patient, made: list[Restart] | None = None, **more: Any) -> Decision:
    """What is decided of a patient beside others."""
    decisions = decide([one, *others], made or [], more.pop("limits", LIMITS), NOW_S, **more)
    return next(decision for decision in decisions if decision.node == one.node)
