"""When a fan-out ends before all of its branches have."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from bluestreak_core.argument import check_count, check_number, has_real_type
from bluestreak_core.run.structure.outcomes import EndedBy


@dataclass(frozen=True, slots=True)
class Rule:
    """How many failures are tolerated, and how many successes are enough."""

    tolerated: float = inf
    enough: int | None = None

    def verdict(self, *, succeeded: int, failed: int, total: int) -> EndedBy | None:
        """Why nothing more has to run; None as long as something has to."""
        if self.enough is not None and succeeded >= self.enough:
            return EndedBy.ENOUGH
        if failed > self.tolerated:
            return EndedBy.FAILURES
        return EndedBy.ALL if succeeded + failed == total else None


FIRST_FAILURE = Rule(tolerated=0)
"""The rule of a fan-out that raises what its branches raise."""


def to_rule(what: str, total: int, tolerate: float | None, enough: int | None) -> Rule | None:
    """The rule of `tolerate=` and `enough=` for so many branches; None if neither is given.

    If only `enough` is given, any number of failures is tolerated.
    """
    if tolerate is None and enough is None:
        return None
    return Rule(
        tolerated=inf if tolerate is None else _tolerated(what, total, tolerate),
        enough=None if enough is None else check_count(f"enough of {what}", enough, least=1),
    )


def _tolerated(what: str, total: int, tolerate: float) -> float:
    """A number of failures, from a number or from a share of all branches."""
    name = f"tolerate of {what}"
    if has_real_type(tolerate, float):
        check_number(name, tolerate, least=0, most=1)
        share = float.__float__(tolerate)
        most = round(total * share)
        # Divided, since 0.29 of 100 would be 28.999999999999996.
        return most if not total or most / total <= share else most - 1
    return check_count(name, tolerate)
