"""Whether processes of workers are healthy and ready: decided here, by what is known of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from bluestreak_core import WorkerHealth, WorkerState

_STALE = 10.0
"""Seconds. What a process has said of its database before that says nothing any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a process says of its worker."""

    state: WorkerState
    is_ready: bool
    has_claimed: bool
    """Whether the store has ever answered a claim."""

    @classmethod
    def of(cls, health: WorkerHealth) -> Self:
        """The report of a worker."""
        return cls(
            state=health.state,
            is_ready=health.is_ready,
            has_claimed=health.last_contact_at is not None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is known of one process at a moment.

    - `starts`: how often it has been started.
    - `death`: how it has ended, if it should not have; None also before its first start.
    - `silence`: seconds since its event loop has given a sign of life; None if there is no process.
    - `report`: None if it has not said anything yet.
    """

    name: str
    starts: int = 1
    death: str | None = None
    silence: float | None = None
    report: Report | None = None


class Watched(Protocol):
    """What a port shows: a process, or a fleet of them. Both may be called from any thread."""

    def standings(self) -> Sequence[Standing]:
        """What is known of each process."""
        ...

    def figures(self) -> Sequence[tuple[str, str]]:
        """Each process that answers, with its metrics in the text format of Prometheus."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The answer to a probe, with a few words on each process."""

    ok: bool
    processes: dict[str, str]


def judge_health(standings: Sequence[Standing], hung_after: float) -> Verdict:
    """Whether all processes are alive, whatever their database does.

    One that starts or that is restarted on purpose does no harm.
    """
    return _verdict(standings, "alive", lambda one: _illness(one, hung_after))


def judge_readiness(standings: Sequence[Standing], hung_after: float) -> Verdict:
    """Whether all processes claim workflows, and their database has answered of late."""
    return _verdict(standings, "ready", lambda one: _obstacle(one, hung_after))


def _verdict(
    standings: Sequence[Standing], good: str, problem_of: Callable[[Standing], str | None]
) -> Verdict:
    problems = {one.name: problem_of(one) for one in standings}
    return Verdict(
        ok=not any(problems.values()),
        processes={name: problem or good for name, problem in problems.items()},
    )


def _illness(one: Standing, hung_after: float) -> str | None:
    if one.death is not None:
        return one.death
    if one.silence is not None and one.silence > hung_after:
        return f"no sign of life for {one.silence:.0f} s"
    return None


def _obstacle(one: Standing, hung_after: float) -> str | None:
    illness = _illness(one, min(hung_after, _STALE))
    if illness is not None:
        return illness
    if one.silence is None or one.report is None or one.report.state is WorkerState.STOPPED:
        return "starting, or stopped"
    if one.report.state is WorkerState.DRAINING:
        return "draining"
    if one.report.is_ready:
        return None
    silent = "the database does not answer"
    return silent if one.report.has_claimed else "the database has not answered yet"
