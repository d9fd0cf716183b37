"""Simulated years of every protocol: the ledger has to be what was really earned, after each of 35,040 polls a year.

Prints a line per protocol; exit 1 at the first difference, which is told with what brings it back.
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed

from years.year import PROTOCOLS, Outcome, prove

DAYS = 365


def main() -> int:
    """Prove what was asked for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/prove-ledger", description=__doc__)
    parser.add_argument("--years", type=int, default=10, help="simulated years of each protocol (10)")
    parser.add_argument("--protocol", action="append", choices=PROTOCOLS, help="only this one; repeatable")
    parser.add_argument("--seed", type=int, default=0, help="of the first year; the next ones follow (0)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at a time (all cores)")
    asked = parser.parse_args()
    seeds = range(asked.seed, asked.seed + asked.years)
    with ProcessPoolExecutor(asked.jobs) as pool:
        for protocol in asked.protocol or PROTOCOLS:
            years = {pool.submit(prove, protocol, seed, DAYS): seed for seed in seeds}
            together = Outcome()
            for year in as_completed(years):
                error = year.exception()
                if error is not None:
                    pool.shutdown(cancel_futures=True)
                    kind = type(error).__name__
                    _say(f"{protocol:<10} --years 1 --protocol {protocol} --seed {years[year]}: {kind}: {error}")
                    return 1
                together.add(year.result())
            _say(f"{protocol:<10} {_summary(together)}")
    return 0


def _summary(outcome: Outcome) -> str:
    events = ", ".join(f"{number} {name}" for name, number in outcome.happened.most_common())
    amounts = ", ".join(f"{amount:.6f} {currency}" for currency, amount in outcome.total.items())
    return (
        f"{outcome.years:.0f} years, {outcome.polls} polls ({outcome.failed} failed, {outcome.missed} missed), "
        f"{events}; {amounts}; 0 differences; {outcome.cpu_s:.0f} CPU s"
    )


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
