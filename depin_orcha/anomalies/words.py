"""What an episode is in plain words, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .nouns import Episode, Kind

Evidence = Mapping[str, Any]


def sentence(one: Episode) -> str:
    """What is wrong, with its numbers, in one sentence."""
    return _SAID[one.kind](one.evidence)


def advice(one: Episode) -> str:
    """What to look at or do."""
    return _outside if one.kind is Kind.UNREACHABLE and "failure_kind" not in one.evidence else _ADVICE[one.kind]


def _unreachable(of: Evidence) -> str:
    if "hours_since_reached" in of:
        return f"the network has not reached it for {of['hours_since_reached']:.0f} h, though it answers here"
    if "monitoring" in of:
        return "the network cannot reach it from outside, though it answers here"
    why = f": {of['reason']}" if of["reason"] else ""
    return f"it has not been read for {of['hours']:.1f} h{why}"


def _stale(of: Evidence) -> str:
    if "hours_since_asked" in of:
        return f"nobody has read it for {of['hours_since_asked']:.0f} h"
    if "hours_without_news" in of:
        news, longest = of["hours_without_news"], of["longest_before_h"]
        return f"it answers, but has said nothing new of its income for {news} h; before, never for more than {longest}"
    return (
        f"it answers the same for {of['hours_unchanged']} h, and its counters have stood still for "
        f"{of['hours_without_income']} h"
    )


def _flat(of: Evidence) -> str:
    hours, longest = of["hours_without_income"], of["longest_before_h"]
    return f"it answers, but has earned nothing for {hours} h; before, never for more than {longest}"


def _drop(of: Evidence) -> str:
    if "paid" in of:
        return f"its last payout is {_percent(of['share_of_usual'])} of the usual one"
    forecast = ", and less than the lower end of the forecast" if "forecast_at_least" in of else ""
    share = _percent(of["share_of_expected"])
    return f"in the last {of['window_h']} h it earned {share} of what is usual for these hours{forecast}"


def _shift(of: Evidence) -> str:
    return f"in the last week it earned {_percent(of['share_of_month'])} of what was usual in the month before"


def _unpaid_usage(of: Evidence) -> str:
    hours, longest = of["hours_of_work_without_income"], of["longest_before_h"]
    return f"it has worked for {hours} h and earned nothing; before, never for more than {longest}"


def _unused(of: Evidence) -> str:
    if "stored_bytes" in of:
        share = of["stored_bytes"] / of["usual_bytes"]
        return f"it is paid as usual, but says that it stores {_percent(share)} of what it used to"
    return f"it has earned in each of {of['hours_of_income_without_work']} h in which it says that it did not work"


def _reputation(of: Evidence) -> str:
    if "satellite" in of:
        named = of["satellite"].partition(":")[0]
        if of["state"] in ("disqualified", "suspended", "offline_suspended"):
            return f"{named}: {of['state'].replace('_', ' ')}"
        scores = [
            f"{name} {of[name]:.4g}"
            + (f" (a week ago {of[before]:.4g})" if of.get(before, of[name]) != of[name] else "")
            for name in ("audit", "suspension", "online")
            for before in (f"{name}_week_ago",)
        ]
        return f"{named}: its scores are low or fall: {', '.join(scores)}"
    if "ip_score" in of:
        before = "" if of["ip_score_week_ago"] is None else f", a week ago {of['ip_score_week_ago']:.0f}"
        return f"the quality score of its connection is {of['ip_score']:.0f} of 100{before}"
    return f"its stake is at risk: {of['open_flags']} open flags, {of['slashed_7d_data']:g} DATA slashed in 7 days"


def _unpaid(of: Evidence) -> str:
    more = of["at_risk"] - of["at_risk_week_ago"]
    return f"{more:.4g} {of['currency']} of its work became overdue or unanswered within a week"


def _heartbeat(of: Evidence) -> str:
    return f"its nodes have sent no heartbeat for {of['hours_since_heartbeat']:.0f} h"


def _uncollected(of: Evidence) -> str:
    share = _percent(of["share_of_limit"])
    return (
        f"{of['uncollected_data']:.4g} DATA are uncollected, {share} of the limit beyond which others may take a part"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


_SAID: Mapping[Kind, Callable[[Evidence], str]] = {
    Kind.UNREACHABLE: _unreachable,
    Kind.STALE_READING: _stale,
    Kind.FLATLINE: _flat,
    Kind.DROP: _drop,
    Kind.LEVEL_SHIFT: _shift,
    Kind.USAGE_WITHOUT_EARNINGS: _unpaid_usage,
    Kind.EARNINGS_WITHOUT_USAGE: _unused,
    Kind.REPUTATION: _reputation,
    Kind.UNPAID_WORK: _unpaid,
    Kind.STALE_HEARTBEAT: _heartbeat,
    Kind.UNCOLLECTED: _uncollected,
}
_ADVICE: Mapping[Kind, str] = {
    Kind.UNREACHABLE: "see whether it runs and answers at its url, and whether its credentials are still good",
    Kind.STALE_READING: "see whether its interface is stuck, and whether collect runs; then restart the node",
    Kind.FLATLINE: "look at its log and its own dashboard: does the network still send it work or traffic?",
    Kind.DROP: "look at its log, its connection and what it may use: something takes part of its income",
    Kind.LEVEL_SHIFT: "see whether demand, price or reach has changed; what stays for two weeks counts as usual",
    Kind.USAGE_WITHOUT_EARNINGS: "see for whom it works and whether they accept its debit notes",
    Kind.EARNINGS_WITHOUT_USAGE: "see whether what it says of its work or its disk is true",
    Kind.REPUTATION: "see that it is online without breaks and its disk is sound: a lost reputation may be final",
    Kind.UNPAID_WORK: "see who owes it; raise the price for, or leave out, requestors who do not pay",
    Kind.STALE_HEARTBEAT: "see whether its nodes run and their wallets hold gas: silent nodes are flagged and slashed",
    Kind.UNCOLLECTED: "see whether its nodes run and their wallets hold gas, or collect by hand",
}
_outside = "see whether its port is open and forwarded, and its address the one that it announces"
