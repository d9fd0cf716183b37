"""Grass account, read through the private interface of its web dashboard (``https://api.grass.io``, GET only).

It is an unofficial interface, read with the operator's own token, at most three times a run; not for six hours after a
challenge page, as long as it asks after a 429, and never again with a token that was refused. Points are points: no
public rate turns them into money, so they count in USD only where the operator sets one. Only what is needed is asked
for and kept; the answers also hold an e-mail, a wallet and IP addresses, none of which is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field, SecretStr

from depin_orcha.adapters import BaseUrl, HttpReader, NodeOptions
from depin_orcha.adapters._grass_dashboard import RENEW, Dashboard, Device, Epoch, token_warnings
from depin_orcha.errors import AdapterError, FailureKind
from depin_orcha.timefmt import rfc3339
from depin_orcha.types import DAY_S, Health, HealthStatus, Limits, Resource, Snapshot, Usage, decimal_text

_T = TypeVar("_T")

SETTLING_S = 14 * DAY_S
"""How long after its end an epoch may still get its points."""


class Options(NodeOptions):
    """``[nodes.<name>]`` of a Grass account: one, the operator's own. Its terms of use are the operator's to check."""

    url: BaseUrl = "https://api.grass.io"
    """The interface of its dashboard."""
    token_file: str | None = None
    """File that holds ``accessToken`` from the dashboard's local storage; it lasts about a year."""
    token: Annotated[SecretStr | None, Field(json_schema_extra={"secret": True})] = None
    usd_per_point: Annotated[float, Field(ge=0)] | None = None
    """What a point is worth in USD by your own word; unset: points stay points, and no decision rests on them."""


class Adapter:
    """Reads one account; see ``depin_orcha.adapters.Adapter``."""

    Options: ClassVar[type[NodeOptions]] = Options
    levers: ClassVar[Mapping[Resource, Literal["native", "runtime", "network"]]] = {
        Resource.CPU_CORES: "runtime",
        Resource.MEMORY_BYTES: "runtime",
        Resource.UPLINK_BPS: "network",
        Resource.DOWNLINK_BPS: "network",
    }
    uses_per_unit: ClassVar[Mapping[Resource, float]] = {Resource.CPU_CORES: 1}
    currencies: ClassVar[frozenset[str]] = frozenset({"POINTS"})

    def __init__(self, node: str, options: Options) -> None:
        self.node = node
        self.options = options

    def collect(self, http: HttpReader, now_s: int, since_s: int | None) -> Snapshot:
        """Read the account once: a POINTS counter per epoch, and the devices that are connected.

        While devices are connected, a total of 0 only says that the epoch is not counted yet: no sample. After the
        turn of an epoch the last counter of the closed one comes along, which finishes it.
        """
        token = self.options.token
        if token is None:
            raise AdapterError(FailureKind.CONFIG, "no token of the dashboard is configured", RENEW)
        dashboard = Dashboard(http, self.options.url, token.get_secret_value())
        epoch = dashboard.latest_epoch()
        warnings = list(token_warnings(token.get_secret_value(), now_s))
        devices = _told(warnings, "the connected devices are unknown", dashboard.devices)
        closed: Sequence[Epoch] = ()
        account: dict[str, Any] | None = None
        if since_s is not None and _may_have_closed(epoch, since_s):
            found = _told(warnings, "the closed epochs were not read", dashboard.epochs)
            closed = [one for one in found or () if _is_to_finish(one, epoch, since_s)]
        else:
            account = _told(warnings, "the account's totals are unknown", dashboard.account)
        earnings = [one.sample(now_s) for one in sorted(closed, key=lambda one: one.end_s or 0)]
        if epoch is not None and (epoch.points or devices == []):
            earnings.append(epoch.sample(now_s))
        elif epoch is not None:
            warnings.append(f"{epoch.name} says 0 points, as it does before they are counted: earnings are unknown")
        return Snapshot(
            node=self.node,
            observed_s=now_s,
            earnings=tuple(earnings),
            health=_health(devices, _details(epoch, devices, account)),
            warnings=tuple(warnings),
        )

    def limits(self, usage: Mapping[Resource, Usage]) -> dict[Resource, Limits]:  # noqa: ARG002
        """None: the network knows no setting but running or not."""
        return {}


def _told(warnings: list[str], lacking: str, ask: Callable[[], _T]) -> _T | None:
    """The answer to a question of the second rank; None, and a warning, where there is none.

    Raises ``AdapterError`` where the account is refused, or asked too often: then nothing more is to be asked.
    """
    try:
        return ask()
    except AdapterError as error:
        if error.kind not in (FailureKind.SHAPE, FailureKind.TRANSIENT) or error.retry_after_s is not None:
            raise
        warnings.append(f"{lacking}: {error.message}")
        return None


def _may_have_closed(epoch: Epoch | None, since_s: int) -> bool:
    """Was the account last read in an epoch that is over, or that ended so shortly ago that it may not be counted?"""
    return epoch is None or epoch.start_s is None or since_s < epoch.start_s + SETTLING_S


def _is_to_finish(closed: Epoch, latest: Epoch | None, since_s: int) -> bool:
    """Epochs that were over long before the last reading are history, not part of what was earned since."""
    is_latest = latest is not None and closed.name == latest.name
    return not is_latest and bool(closed.points) and closed.end_s is not None and closed.end_s > since_s - SETTLING_S


def _details(epoch: Epoch | None, devices: Sequence[Device] | None, account: dict[str, Any] | None) -> dict[str, Any]:
    estimates = [device.uptime_points for device in devices or ()]
    known = [points for points in estimates if points is not None]
    return {
        "epoch": None if epoch is None else epoch.name,
        "counted_at": None if epoch is None or epoch.modified_s is None else rfc3339(epoch.modified_s),
        "points_today": None if epoch is None or epoch.points_today is None else decimal_text(epoch.points_today),
        "uptime_points_estimate": round(sum(known), 1) if estimates and len(known) == len(estimates) else None,
        "devices": None
        if devices is None
        else [
            {
                "type": device.kind,
                "ip_score": None if device.score is None else float(device.score),
                "uptime_s": None if device.uptime_s is None else int(device.uptime_s),
                "connected_at": None if device.connected_s is None else rfc3339(device.connected_s),
            }
            for device in devices
        ],
    } | ({} if account is None else {"account": account})


def _health(devices: Sequence[Device] | None, details: dict[str, Any]) -> Health:
    if devices is None:
        return Health(HealthStatus.UNKNOWN, "which devices are connected could not be read", details)
    if not devices:
        return Health(HealthStatus.DEGRADED, "no device is connected", details)
    worthless = sum(device.score == 0 for device in devices)
    if worthless:
        reason = f"without a quality score, which earns nothing: {worthless} of {len(devices)} connected devices"
        return Health(HealthStatus.DEGRADED, reason, details)
    return Health(HealthStatus.UP, f"connected devices: {len(devices)}", details)
