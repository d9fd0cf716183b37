"""The journal of restarts and the circuit breaker of each node, as they stand in the database."""

from __future__ import annotations

from dataclasses import dataclass

from .asof import AsOf
from .heal import Breaker, Circuit, Restart
from .store import Store
from .timefmt import rfc3339
from .types import ActionState, HealthStatus


@dataclass(frozen=True, slots=True)
class Begun:
    """A restart on record; ``mark``: that of the start before it. ``finished_s`` is None while it is not over."""

    row: int
    node: str
    mark: str
    state: ActionState
    started_s: int
    finished_s: int | None


def since(known: AsOf, from_s: int) -> list[Restart]:
    """The restarts that we began from an instant on, oldest first."""
    rows = known.connection.execute(
        "SELECT node, host, source, started_s FROM restarts WHERE started_s BETWEEN ? AND ? ORDER BY id",
        (from_s, known.now_s),
    )
    return [Restart(*row) for row in rows]


def latest(known: AsOf) -> dict[str, Begun]:
    """Node -> its last restart."""
    rows = known.connection.execute(
        "SELECT max(id), node, mark, state, started_s, finished_s FROM restarts WHERE started_s <= ? GROUP BY node",
        (known.now_s,),
    )
    return {row[1]: Begun(row[0], row[1], row[2], ActionState(row[3]), row[4], row[5]) for row in rows}


def not_now(known: AsOf, node: str, kind: str, rest_s: float) -> str | None:
    """Why a node is not restarted now to change it by the back end ``kind``; None where nothing speaks against it.

    It has to be well, and nobody of us, be it ``heal`` or that back end, restarted it or tried to within ``rest_s``.
    """
    health = known.health(node)
    if health is None or health.failure_kind is not None or health.status != HealthStatus.UP:
        said = "it was never read" if health is None else health.reason or "it could not be read"
        return f"it would be restarted, which is only done while it is well: {said}"
    (last_s,) = known.connection.execute(
        "SELECT max(started_s) FROM (SELECT started_s FROM actions WHERE node = :node "
        "AND kind = :kind AND started_s <= :now AND state NOT IN ('planned', 'skipped', 'advice') "
        "UNION ALL SELECT started_s FROM restarts WHERE node = :node AND started_s <= :now)",
        {"node": node, "kind": kind, "now": known.now_s},
    ).fetchone()
    if last_s is None or last_s + rest_s <= known.now_s:
        return None
    return f"it was restarted at {rfc3339(last_s)}, and is not again before {rfc3339(int(last_s + rest_s))}"


def breakers(known: AsOf) -> dict[str, Breaker]:
    """Node -> its breaker; one that was never needed is missing."""
    rows = known.connection.execute(
        "SELECT node, circuit, tries, max(learned_s), until_s, reason FROM breakers WHERE learned_s <= ? GROUP BY node",
        (known.now_s,),
    )
    return {node: Breaker(Circuit(circuit), *rest) for node, circuit, *rest in rows}


def begin(store: Store, restart: Restart, kind: str, why: str, mark: str, breaker: Breaker) -> int:
    """A restart is on record, and its try counted, before anything is done; returns the number of its row."""
    with store.transaction() as connection:
        _set_breaker(store, restart.node, breaker)
        cursor = connection.execute(
            "INSERT INTO restarts (run_id, node, host, source, kind, why, mark, state, started_s) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(store.run_id, restart.node, restart.host, restart.source),
                *(kind, why, mark, ActionState.RUNNING, restart.started_s),
            ),
        )
    return cursor.lastrowid or 0


def finish(
    store: Store, begun: Begun, state: ActionState, detail: str, finished_s: int, breaker: Breaker | None = None
) -> None:
    """How a restart ended, and the breaker of its node from then on, where that has changed."""
    with store.transaction() as connection:
        connection.execute(
            "UPDATE restarts SET state = ?, detail = ?, finished_s = ? WHERE id = ?",
            (state, detail, finished_s, begun.row),
        )
        if breaker is not None:
            _set_breaker(store, begun.node, breaker)


def set_breaker(store: Store, node: str, breaker: Breaker) -> None:
    """The breaker of a node from ``changed_s`` on."""
    with store.transaction():
        _set_breaker(store, node, breaker)


def _set_breaker(store: Store, node: str, breaker: Breaker) -> None:
    store.connection.execute(
        "INSERT OR REPLACE INTO breakers VALUES (?, ?, ?, ?, ?, ?)",
        (node, breaker.changed_s, breaker.circuit, breaker.tries, breaker.until_s, breaker.reason),
    )
