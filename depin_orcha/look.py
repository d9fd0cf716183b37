"""What the verbs that only look have in common: the database as it was known, and nodes that are checked by name."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .asof import AsOf
from .database import open_for_reading
from .paths import database_path, read_config
from .roster import check_names, configured_nodes

if TYPE_CHECKING:
    from .roster import NodeConfig
    from .shell import Shared


@contextmanager
def opened(shared: Shared) -> Generator[tuple[AsOf | None, list[NodeConfig], int]]:
    """The database where there is one, the configured nodes, and the age at which a price is stale, in seconds.

    Raises ``UsageError`` for a ``--node`` that nobody knows.
    """
    path, text = read_config(shared.config)
    with open_for_reading(database_path(shared.db)) as connection:
        known = AsOf(connection, shared.now_s()) if connection else None
        nodes, max_age_s = configured_nodes(path, text, known)
        check_names(shared.node, [node.name for node in nodes], known)
        yield known, nodes, max_age_s


def look(shared: Shared, read: Callable[[AsOf], Any], empty: Any) -> Any:
    """What ``read`` finds, or ``empty`` where there is no database yet."""
    with opened(shared) as (known, _, _):
        return read(known) if known else empty


def status_data(shared: Shared) -> dict[str, Any]:
    """The data of a status document; reads the configuration in full only where no run has checked it before."""
    from . import status as view

    only = frozenset(shared.node)
    with opened(shared) as (known, nodes, max_age_s):
        if known is None:
            return view.empty_view([node for node in nodes if not only or node.name in only])
        return view.view(known, nodes, max_age_s, only=only)


def exposition_of(shared: Shared, data: dict[str, Any]) -> str:
    """A status document's data as text for Prometheus."""
    from .exposition import Counts, counts, exposition

    return exposition(data, look(shared, counts, Counts({}, {}, {})))
