"""A fan-out that returns `Outcomes`: what is decided about its branches is recorded once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from bluestreak_core.model import ErrorRecord
from bluestreak_core.run.frame import Frame
from bluestreak_core.run.structure.fan_out import Branches, Failed, FanOut, Settled, Succeeded
from bluestreak_core.run.structure.outcomes import BranchOutcome, BranchStatus, EndedBy, Outcomes
from bluestreak_core.run.structure.rule import Rule
from bluestreak_core.run.verb.message_wait import unusable

_LONGEST_MESSAGE = 500
_ALL_MESSAGES = 1_000_000
"""Characters of one error's message, and of all messages, in the record of a fan-out."""


async def outcomes(
    frame: Frame, kind: str, step_id: str, branches: Branches, *, limit: int, rule: Rule
) -> Outcomes[Any]:
    """Run the branches as far as the rule asks for; record why they ended, and which did not.

    If that is recorded, nothing runs. Each branch is recorded by itself, so the record names only
    those that failed or were skipped.
    """
    if frame.is_recorded(step_id):
        decision = _read(frame, kind, step_id, frame.journal.history.steps[step_id])
        ended = _recorded(frame, kind, step_id, branches, decision)
    else:
        fan_out = FanOut(branches, rule)
        await fan_out.run(f"{kind} {step_id!r}", limit)
        ended = fan_out.ended
        decision = _Decision.of(branches, fan_out)
        await _record(frame, kind, step_id, decision)
    await branches.skip([key for key in branches.keys if key in decision.skipped])
    return _to_outcomes(branches, decision, ended)


@dataclass(frozen=True, slots=True)
class _Decision:
    """Which branches did not succeed, and why no more of them ran."""

    ended_by: EndedBy
    failed: Mapping[str, tuple[ErrorRecord, int]]
    skipped: frozenset[str]

    @classmethod
    def of(cls, branches: Branches, fan_out: FanOut) -> Self:
        failed = {
            key: (settled.record, settled.attempts)
            for key in branches.keys
            if isinstance(settled := fan_out.ended.get(key), Failed)
        }
        skipped = frozenset(key for key in branches.keys if key not in fan_out.ended)
        return cls(fan_out.ended_by or EndedBy.ALL, failed, skipped)

    def to_output(self) -> dict[str, Any]:
        """The decision as the output of a step. The errors are in the records of the branches."""
        longest = min(_LONGEST_MESSAGE, _ALL_MESSAGES // max(1, len(self.failed)))
        failed = [
            {
                "key": key,
                "type": error.type[:_LONGEST_MESSAGE],
                "message": error.message[:longest],
                "attempts": attempts,
            }
            for key, (error, attempts) in self.failed.items()
        ]
        return {
            "ended_by": self.ended_by.value,
            "failed": failed,
            "skipped": sorted(self.skipped),
        }

    @classmethod
    def from_output(cls, output: Any) -> Self:
        """The decision in a step's output. Raises `LookupError`, `TypeError` or `ValueError`."""
        failed = {
            entry["key"]: (
                ErrorRecord(type=entry["type"], message=entry["message"], traceback=""),
                entry["attempts"],
            )
            for entry in output["failed"]
        }
        return cls(EndedBy(output["ended_by"]), failed, frozenset(output["skipped"]))


async def _record(frame: Frame, kind: str, step_id: str, decision: _Decision) -> None:
    output = decision.to_output()
    with frame.operations.operation(kind, step_id):
        recorded = await frame.record(frame.journal.save_value(step_id, output))
    if recorded != output:
        await frame.leave_to_another_run()


def _read(frame: Frame, kind: str, step_id: str, output: Any) -> _Decision:
    try:
        return _Decision.from_output(output)
    except (LookupError, TypeError, ValueError):
        raise unusable(frame, step_id, f"no {kind} has recorded it") from None


def _recorded(
    frame: Frame, kind: str, step_id: str, branches: Branches, decision: _Decision
) -> dict[str, Settled]:
    """What has become of the branches that were not skipped, by their records."""
    ended: dict[str, Settled] = {}
    for key in branches.keys:
        settled = branches.find(key)
        if key in decision.failed and not isinstance(settled, Failed):
            # A fork copies no attempts, and after a retry the last round's do not count.
            settled = branches.failed(key, *decision.failed[key])
        if key not in decision.skipped:
            if settled is None:
                reason = f"the {kind} ended without {key!r}: it has other branches in this run"
                raise unusable(frame, step_id, reason)
            ended[key] = settled
    return ended


def _to_outcomes(
    branches: Branches, decision: _Decision, ended: Mapping[str, Settled]
) -> Outcomes[Any]:
    outcomes = tuple(
        _to_outcome(key, None if key in decision.skipped else ended[key]) for key in branches.keys
    )
    exceptions = {
        key: found.error for key in branches.keys if isinstance(found := ended.get(key), Failed)
    }
    return Outcomes(ended_by=decision.ended_by, outcomes=outcomes, exceptions=exceptions)


def _to_outcome(key: str, settled: Settled | None) -> BranchOutcome[Any]:
    match settled:
        case Succeeded(value):
            return BranchOutcome(key=key, status=BranchStatus.SUCCEEDED, value=value)
        case Failed(record=record):
            return BranchOutcome(key=key, status=BranchStatus.FAILED, error=record)
        case None:
            return BranchOutcome(key=key, status=BranchStatus.SKIPPED)
