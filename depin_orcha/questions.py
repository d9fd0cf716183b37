"""The questions that every operator asks, answered from what is known: members of ``explain``'s ``questions[]``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .asof import AsOf, PlanRow
from .cycle import Job
from .economics import NodeFacts
from .verdict import verdict

Row = dict[str, Any]


def questions(job: Job, known: AsOf, plan: PlanRow, facts: Mapping[str, NodeFacts]) -> list[Row]:
    """Question, whom it is about, the answer and its evidence."""
    judged = verdict(job, known)
    rows: list[Row] = []
    for host in judged["hosts"]:
        told = f"{_word(host)}: {host['why']}"
        rows.append(_row("Is this machine worth its power?", host["host"], told, host["evidence"]))
    rows += [_row("Is each node?", node["node"], _short(node), node["evidence"]) for node in judged["nodes"]]
    wanted = [one for one in facts.values() if job.wanted(one.name)]
    hours = {node["node"]: node["pause_hours"] for node in judged["nodes"]}
    rows += [_offer(one, hours.get(one.name, [])) for one in wanted if one.lever]
    rows += [_more(one) for one in wanted if one.lever or one.fill is not None]
    protecting = [one for one in wanted if not one.lever and one.current_units is not None]
    for one in protecting:
        told = "its limit protects the other nodes of the machine from it; a larger one is not known to earn more"
        rows.append(_row("Which limits protect whom?", one.name, told, "none" if one.fill else "contract"))
    for host in plan.result["hosts"]:
        for advice in host["advice"]:
            if advice["kind"] == "by_hand" and job.wanted(advice["node"]):
                rows.append(_row("What can only you set?", advice["node"], advice["text"], "measured"))
            if advice["kind"] == "bound" and job.wanted(advice["node"]):
                told = advice["text"].removeprefix(f"{advice['node']}: ")
                rows.append(_row("Which bound of yours is not met?", advice["node"], told, "contract"))
    return rows


def _row(question: str, subject: str, answer: str, evidence: str) -> Row:
    return {"question": question, "subject": subject, "answer": answer, "evidence": evidence}


def _word(row: Mapping[str, Any]) -> str:
    return str(row["verdict"]).replace("_", " ")


def _short(row: Mapping[str, Any]) -> str:
    """The verdict of a node, with the reason where something is to be done or missing."""
    return _word(row) if row["verdict"] == "keep" else f"{_word(row)}: {row['why']}"


def _offer(one: NodeFacts, pause_hours: list[int]) -> Row:
    question = "Which cap, which price, paused when?"
    if one.offers is not None:
        parts = [
            f"{offer.name} {offer.net.mean * 24:+.2f} USD a day"
            + ("" if offer.busy is None or not offer.units else f", at work {offer.busy:.0%} of the time")
            for offer in one.offers.offers
        ]
        told = f"now {one.offers.current}; {'; '.join(parts)}"
        evidence = one.offers.evidence
    else:
        told, evidence = one.curve.reason, one.curve.evidence
    if not pause_hours:
        told += "; no hour is dear enough to pause at" if one.running_usd_per_unit_hour is not None else ""
    return _row(question, one.name, told, evidence)


def _more(one: NodeFacts) -> Row:
    question = "What would more of it bring?"
    if one.fill is not None:
        free = (one.current_units or 0.0) - one.fill.stored_units
        pace = one.fill.per_hour * 730.5
        if free <= 0:
            told = "its disk is full: more space would fill"
        elif pace <= 0:
            told = f"{free:.2f} TB are free and do not fill: keep what there is"
        else:
            shared = " together with the others of its group" if one.fill.group else ""
            told = f"nothing before the {free:.2f} TB that are free fill up: {pace:.2f} TB a month come in{shared}"
        command = f"depin-orcha explain --node {one.name} --what-if storage_bytes=+1TB --cost 25"
        return _row(question, one.name, f"{told}; {command}", "measured")
    resource = next(iter(one.uses_per_unit))
    if one.curve.evidence == "measured" or (one.offers is not None and one.curve.tried):
        told = f"no more than {one.curve.tried[-1].units:g} units were ever tried, so nothing is known beyond"
        return _row(question, one.name, f"{told}; ask with --what-if {resource}=+AMOUNT", "none")
    return _row(question, one.name, "cannot tell: no larger grant was ever tried twice", "none")
