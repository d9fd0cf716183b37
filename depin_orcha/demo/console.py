"""The console interface of a storage node, answered from a simulated one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, cast

from depin_orcha.types import DAY_S, HOUR_S

from .storage import (
    CENTS_PER_TB,
    CENTS_PER_TB_MONTH,
    MONTH_H,
    Estimate,
    Satellite,
    Settlement,
    StorageNode,
    held_percent,
)
from .times import month_start, month_text, months_between, parse_month, utc_text
from .wire import Answer, Query, json_answer

VERSION = "1.162.3"
_PAGE = b"<!DOCTYPE html><html><head><title>SIMULATED storage node</title></head><body></body></html>"


class Console:
    """Answers as the console of ``node`` at the instant ``now`` gives."""

    def __init__(self, node: StorageNode, now: Callable[[], int]) -> None:
        self._node = node
        self._now = now

    def __call__(self, path: str, query: Query, headers: Mapping[str, str]) -> Answer:  # noqa: ARG002, PLR0911 - one return a route
        if path == "/api/sno":
            return Answer(301, headers={"Location": "/api/sno/"})
        now_s = self._now()
        match path.split("/")[1:]:
            case ["api", "sno", ""]:
                return json_answer(self._dashboard(now_s))
            case ["api", "sno", "satellites"]:
                return json_answer(self._satellites(now_s))
            case ["api", "sno", "satellite", satellite_id]:
                return self._of_satellite(satellite_id, lambda satellite: _satellite(satellite, now_s))
            case ["api", "sno", "satellites", satellite_id, "pricing"]:
                return self._of_satellite(satellite_id, _pricing)
            case ["api", "sno", "estimated-payout"]:
                return self._estimated_payout(query.get("id"), now_s)
            case ["api", "heldamount", "held-history"]:
                return json_answer([_held_history(satellite, now_s) for satellite in self._node.satellites])
            case ["api", "heldamount", *rest]:
                return self._held_amount(rest, query.get("id"), now_s)
            case ["api", "notifications", "list"]:
                return _notifications(query)
            case _:
                return Answer(200, _PAGE, "text/html; charset=utf-8")

    def _of_satellite(self, satellite_id: str, body: Callable[[Satellite], Any]) -> Answer:
        for satellite in self._node.satellites:
            if satellite.id == satellite_id:
                return json_answer(body(satellite))
        return _error(404, "consoleapi storagenode: console: trust: satellite is untrusted")

    def _dashboard(self, now_s: int) -> Any:
        node = self._node
        used = node.used_bytes(now_s)
        return {
            "nodeID": node.id,
            "wallet": node.wallet,
            "walletFeatures": None,
            "satellites": [
                {
                    "id": satellite.id,
                    "url": satellite.address,
                    "disqualified": None,
                    "suspended": None,
                    "vettedAt": utc_text(satellite.vetted_s),
                }
                for satellite in node.satellites
            ],
            "diskSpace": {
                "used": used,
                "available": node.allocated_bytes - used,
                "overused": 0,
                "allocated": node.allocated_bytes,
                "trash": node.trash_bytes(now_s),
                "reclaimable": 0,
            },
            "bandwidth": {
                "used": sum(_month_bandwidth(satellite, now_s) for satellite in node.satellites),
                "available": 0,
            },
            "lastPinged": utc_text(now_s - 4),
            "version": VERSION,
            "allowedVersion": "1.155.4",
            "upToDate": True,
            "startedAt": utc_text(node.started_s),
            "configuredPort": "28967",
            "quicStatus": "OK",
            "lastQuicPingedAt": utc_text(now_s - now_s % HOUR_S),
        }

    def _satellites(self, now_s: int) -> Any:
        each = [_usage(satellite, now_s) for satellite in self._node.satellites]
        storage = [_sum(days) for days in zip(*(usage["storageDaily"] for usage in each), strict=True)]
        for day in storage:
            del day["intervalInHours"]
        return {
            "storageDaily": storage,
            "bandwidthDaily": [_sum(days) for days in zip(*(usage["bandwidthDaily"] for usage in each), strict=True)],
            **_sum([{key: usage[key] for key in _SUMMARIES} for usage in each]),
            "earliestJoinedAt": utc_text(min(satellite.joined_s for satellite in self._node.satellites)),
            "audits": [_audits(satellite) for satellite in self._node.satellites],
        }

    def _estimated_payout(self, satellite_id: str | None, now_s: int) -> Answer:
        chosen = [satellite for satellite in self._node.satellites if satellite_id in (None, satellite.id)]
        if satellite_id is not None and not (len(satellite_id) >= 50 and satellite_id.isalnum()):
            return _error(400, "consoleapi storagenode: node ID error: checksum error")
        this_s, last_s = month_start(now_s), month_start(now_s, -1)
        return json_answer(
            {
                "currentMonth": _payout([satellite.estimate(this_s, now_s) for satellite in chosen], satellite_id),
                "previousMonth": _payout([satellite.estimate(last_s, now_s) for satellite in chosen], satellite_id),
                "currentMonthExpectations": sum(satellite.expected_cents(now_s) for satellite in chosen),
            }
        )

    def _held_amount(self, rest: list[str], satellite_id: str | None, now_s: int) -> Answer:
        chosen = [satellite for satellite in self._node.satellites if satellite_id in (None, satellite.id)]
        settled = [(satellite, month) for satellite in chosen for month in satellite.settlements(now_s)]
        try:
            match rest:
                case ["periods"]:
                    return json_answer(sorted({month_text(month.month_s) for _, month in settled}) or None)
                case ["payout-history", period]:
                    month_s = parse_month(period)
                    return json_answer([_payout_history(*one) for one in settled if one[1].month_s == month_s] or None)
                case ["paystubs", period]:
                    stubs = _paystubs(settled, parse_month(period), parse_month(period))
                    return json_answer(stubs[0] if stubs and satellite_id else stubs or None)
                case ["paystubs", start, end]:
                    return json_answer(_paystubs(settled, parse_month(start), parse_month(end)) or None)
                case _:
                    return Answer(200, _PAGE, "text/html; charset=utf-8")
        except ValueError as error:
            return _error(400, f"consoleapi payouts: {error}")


_SUMMARIES = ("storageSummary", "averageUsageBytes", "bandwidthSummary", "egressSummary", "ingressSummary")


def _error(status: int, text: str) -> Answer:
    return json_answer({"error": text}, status)


def _number(value: float) -> float | int:
    """A float as the node writes it: without a decimal point when it is whole."""
    return int(value) if value.is_integer() else value


def _sum(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Numbers added up key by key, also in nested tables; anything else is that of the first row."""
    first, *others = rows
    total = dict(first)
    for row in others:
        for key, value in row.items():
            if isinstance(value, dict):
                total[key] = _sum([total[key], cast("dict[str, Any]", value)])
            elif isinstance(value, (int, float)) and not isinstance(value, bool):
                total[key] += value
    return total


def _month_bandwidth(satellite: Satellite, now_s: int) -> int:
    traffic = satellite.between(month_start(now_s), now_s)
    return traffic.egress_total + traffic.ingress_total


def _satellite(satellite: Satellite, now_s: int) -> Any:
    half_day_s = DAY_S // 2
    return {
        "id": satellite.id,
        **_usage(satellite, now_s),
        "audits": _audits(satellite),
        "auditHistory": {
            "score": 1,
            "windows": [
                {"windowStart": utc_text(at_s), "totalCount": 12, "onlineCount": 12}
                for at_s in range(now_s - now_s % half_day_s - 30 * DAY_S, now_s - half_day_s, half_day_s)
            ],
        },
        "priceModel": {
            "EgressBandwidth": CENTS_PER_TB,
            "RepairBandwidth": CENTS_PER_TB,
            "AuditBandwidth": CENTS_PER_TB,
            "DiskSpace": CENTS_PER_TB_MONTH,
        },
        "nodeJoinedAt": utc_text(satellite.joined_s),
        "vettedAt": utc_text(satellite.vetted_s),
    }


def _pricing(satellite: Satellite) -> Any:
    return {
        "satelliteID": satellite.id,
        "egressBandwidth": CENTS_PER_TB,
        "repairBandwidth": CENTS_PER_TB,
        "auditBandwidth": CENTS_PER_TB,
        "diskSpace": CENTS_PER_TB_MONTH,
    }


def _audits(satellite: Satellite) -> Any:
    return {"auditScore": 1, "suspensionScore": 1, "onlineScore": 1, "satelliteName": satellite.address}


def _usage(satellite: Satellite, now_s: int) -> dict[str, Any]:
    """The running month by day; the running day's storage is projected, as nodes do since 1.162."""
    days = range(month_start(now_s), now_s + 1, DAY_S)
    storage = [_storage_day(satellite, day_s, now_s) for day_s in days]
    month = satellite.between(days[0], now_s)
    return {
        "storageDaily": storage,
        "bandwidthDaily": [_bandwidth_day(satellite, day_s, now_s) for day_s in days],
        "storageSummary": _number(float(sum(day["atRestTotal"] for day in storage))),
        "averageUsageBytes": _number(sum(day["atRestTotalBytes"] for day in storage) / len(storage)),
        "bandwidthSummary": month.egress_total + month.ingress_total,
        "egressSummary": month.egress_total,
        "ingressSummary": month.ingress_total,
    }


def _storage_day(satellite: Satellite, day_s: int, now_s: int) -> dict[str, Any]:
    running = now_s < day_s + DAY_S
    hours = (now_s - day_s) / HOUR_S if running else 24
    byte_hours = satellite.between(day_s, min(now_s, day_s + DAY_S)).byte_hours
    average = byte_hours / hours if hours else float(satellite.stored_bytes(now_s))
    return {
        "atRestTotal": 0 if running else _number(byte_hours),
        "atRestTotalBytes": _number(average),
        "intervalInHours": _number(float(hours)),
        "intervalStart": utc_text(day_s),
        "calculated": running,
    }


def _bandwidth_day(satellite: Satellite, day_s: int, now_s: int) -> dict[str, Any]:
    traffic = satellite.between(day_s, min(now_s, day_s + DAY_S))
    return {
        "egress": {"repair": traffic.repair, "audit": traffic.audit, "usage": traffic.egress},
        "ingress": {"repair": traffic.ingress_repair, "usage": traffic.ingress},
        "delete": 0,
        "intervalStart": utc_text(day_s),
    }


def _payout(estimates: list[Estimate], satellite_id: str | None) -> Any:
    """A month's estimate; the sum over all satellites shows a held rate of 0 whatever theirs are."""

    def total(amounts: Iterable[Decimal]) -> float | int:
        return _number(float(sum(float(amount) for amount in amounts)))

    return {
        "egressBandwidth": sum(one.egress for one in estimates),
        "egressBandwidthPayout": total(one.egress_cents for one in estimates),
        "egressRepairAudit": sum(one.repair_audit for one in estimates),
        "egressRepairAuditPayout": total(one.repair_audit_cents for one in estimates),
        "diskSpace": _number(float(sum(one.byte_months for one in estimates))),
        "diskSpacePayout": total(one.disk_cents for one in estimates),
        "heldRate": estimates[0].held_rate if satellite_id and estimates else 0,
        "payout": total(one.payout_cents for one in estimates),
        "held": total(one.held_cents for one in estimates),
    }


def _paystubs(settled: list[tuple[Satellite, Settlement]], first_s: int, last_s: int) -> list[Any]:
    if first_s > last_s:
        raise ValueError("period has wrong format: wrong period range")
    return [_paystub(*one) for one in settled if first_s <= one[1].month_s <= last_s]


def _paystub(satellite: Satellite, month: Settlement) -> Any:
    traffic = month.traffic
    return {
        "satelliteId": satellite.id,
        "period": month_text(month.month_s),
        "created": utc_text(month.created_s),
        "codes": "",
        "usageAtRest": _number(traffic.byte_hours / MONTH_H),
        "usageGet": traffic.egress,
        "usagePut": traffic.ingress,
        "usageGetRepair": traffic.repair,
        "usagePutRepair": traffic.ingress_repair,
        "usageGetAudit": traffic.audit,
        "compAtRest": month.at_rest,
        "compGet": month.get,
        "compPut": 0,
        "compGetRepair": month.get_repair,
        "compPutRepair": 0,
        "compGetAudit": month.get_audit,
        "surgePercent": 0,
        "held": month.held,
        "owed": month.owed,
        "disposed": month.disposed,
        "paid": month.paid,
        "distributed": month.paid,
    }


def _payout_history(satellite: Satellite, month: Settlement) -> Any:
    return {
        "satelliteID": satellite.id,
        "satelliteURL": satellite.address,
        "age": months_between(satellite.joined_s, month.month_s) + 1,
        "earned": month.earned,
        "surge": month.earned,
        "surgePercent": 100,
        "held": month.held,
        "heldPercent": held_percent(satellite.joined_s, month.month_s),
        "afterHeld": month.earned - month.held,
        "disposed": month.disposed,
        "paid": month.paid,
        "receipt": "",
        "isExitComplete": False,
        "distributed": month.paid,
    }


def _held_history(satellite: Satellite, now_s: int) -> Any:
    thirds = [0, 0, 0]
    months = satellite.settlements(now_s)
    for index, month in enumerate(months[:9]):
        thirds[index // 3] += month.held
    return {
        "satelliteID": satellite.id,
        "satelliteName": satellite.address,
        "holdForFirstPeriod": thirds[0],
        "holdForSecondPeriod": thirds[1],
        "holdForThirdPeriod": thirds[2],
        "totalHeld": sum(thirds),
        "totalDisposed": sum(month.disposed for month in months),
        "joinedAt": utc_text(satellite.joined_s),
    }


def _notifications(query: Query) -> Answer:
    limit, page = query.get("limit", ""), query.get("page", "")
    if not (limit.isdigit() and page.isdigit()):
        return _error(400, "consoleapi notifications: parameter not found")
    empty = {"notifications": None, "offset": 0, "limit": min(50, int(limit)), "currentPage": 0, "pageCount": 0}
    return json_answer({"page": empty, "unreadCount": 0, "totalCount": 0})
