"""What is wrong with a node now, by all that is known of it: pure, and cheap enough for every run.

``judge`` looks at one instant; ``follow`` turns what it finds into episodes, of which each cause has one at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

from .episodes import Reference, follow, reference
from .income import can_tell, income, unused
from .nouns import INCOME, UNUSED, AtRisk, Contact, Details, Episode, Finding, Kind, Known, Severity
from .reading import outside, reach, silent
from .standing import standing
from .usual import HISTORY_H, Past, Usual, learn, without

__all__ = [
    "HISTORY_H",
    "INCOME",
    "AtRisk",
    "Contact",
    "Details",
    "Episode",
    "Finding",
    "Kind",
    "Known",
    "Past",
    "Reference",
    "Severity",
    "Usual",
    "Verdict",
    "follow",
    "judge",
    "learn",
    "reference",
    "without",
]


_IDLE = ("paused", "idle: nothing")
"""How a node's reason begins that earns nothing because its owner wants it so."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found, and of which open causes nothing was found though it was looked for."""

    findings: list[Finding]
    well: frozenset[str] = frozenset()


def judge(known: Known) -> Verdict:
    """All that is wrong now, a consequence only where its cause is not told already.

    A node that its owner has paused is well; one that says itself that it is paused is left alone with its income.
    """
    contact = known.contact
    if contact is None or contact.good_s is None or known.paused:
        return Verdict([], frozenset(known.open))
    missing = reach(known, contact)
    if contact.bad_since_s is not None:
        return Verdict([] if missing is None else [missing])
    findings = [*silent(known, contact), *outside(known, contact), *standing(known)]
    blind: set[str] = set()
    if any(one.kind is Kind.STALE_READING for one in findings):
        blind = {INCOME, UNUSED}
    elif not contact.reason.startswith(_IDLE):
        findings += [one for one in (income(known), *unused(known)) if one is not None]
        if not can_tell(known):
            blind = {INCOME, UNUSED}
    return Verdict(findings, frozenset(known.open) - {one.cause for one in findings} - blind)
