"""The differences between two runs of a crash sweep that the crash does not account for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from bluestreak_core.callback import is_record
from bluestreak_core.errors import DeadlineExceeded
from bluestreak_core.errors.text import counted
from bluestreak_core.model import Status
from bluestreak_core.testing.sweep.rerun import WORKFLOW_ID, Rerun, Seen
from bluestreak_core.testing.virtual import Outcome


def find_differences(rerun: Rerun, first: Rerun) -> Iterator[str]:
    """All that is different from the first run."""
    if rerun.point is not None and not rerun.has_crashed:
        yield (
            f"the run had only {len(rerun.store_calls)} store calls, "
            f"the first one {len(first.store_calls)}"
        )
    yield from _differences("workflows", sorted(rerun.outcomes), sorted(first.outcomes))
    for workflow_id in sorted(rerun.outcomes.keys() & first.outcomes.keys()):
        where = "" if workflow_id == WORKFLOW_ID else f"workflow {workflow_id!r}: "
        for difference in _different_workflow(workflow_id, rerun, first):
            yield where + difference


def _different_workflow(workflow_id: str, rerun: Rerun, first: Rerun) -> Iterator[str]:
    outcome, at_first = rerun.outcomes[workflow_id], first.outcomes[workflow_id]
    seen, then = rerun.seen[workflow_id], first.seen[workflow_id]
    yield from _different_ends(outcome, at_first)
    if rerun.point is not None and _is_cut_short(outcome):
        yield from _records_beyond(outcome, at_first, seen)
    else:
        yield from _different_records(outcome, at_first)
        yield from _different_past(workflow_id, rerun, first)
    yield from _missing_clean_ups(outcome, at_first, seen, then)
    yield from _different_calls(seen, then)


def _different_records(outcome: Outcome, at_first: Outcome) -> Iterator[str]:
    for what, now, before in _records(outcome, at_first):
        yield from _differences(what, now, before)
    yield from _differences("unread messages", _unread(outcome), _unread(at_first))
    yield from _differences("published values", outcome.published, at_first.published)


def _different_past(workflow_id: str, rerun: Rerun, first: Rerun) -> Iterator[str]:
    """What is different in the generations before the last one."""
    for generation in range(first.outcomes[workflow_id].workflow.generation):
        key = (workflow_id, generation)
        what = f"recorded steps of generation {generation}"
        yield from _differences(what, rerun.past.get(key), first.past.get(key))


def _records_beyond(outcome: Outcome, at_first: Outcome, seen: Seen) -> Iterator[str]:
    """A crash leaves less time until the end, and maybe other clean-ups to call."""
    for what, now, before in _records(outcome, at_first):
        expected = before | {step_id: now.get(step_id) for step_id in seen.asked_for}
        beyond = {
            key: value
            for key, value in now.items()
            if key not in expected or value != expected[key]
        }
        if beyond:
            yield f"{what}: {beyond!r} beyond those at first, {before!r}"


def _missing_clean_ups(
    outcome: Outcome, at_first: Outcome, seen: Seen, then: Seen
) -> Iterator[str]:
    for step_id in seen.due:
        is_failing = then.called[step_id] and step_id not in at_first.steps
        if step_id not in outcome.steps and not is_failing:
            yield f"clean-up {step_id!r} is due and not recorded"


def _records(outcome: Outcome, at_first: Outcome) -> Iterator[tuple[str, Any, Any]]:
    """The records, now and at first, by id. A crash may change when a nap ends.

    The tokens of callbacks differ in each run, and a crash makes more of them.
    """
    yield "recorded steps", _without_tokens(outcome), _without_tokens(at_first)
    yield "given-up steps", _given_up(outcome), _given_up(at_first)
    yield "naps", dict.fromkeys(outcome.naps), dict.fromkeys(at_first.naps)
    yield "received messages", _received(outcome), _received(at_first)


def _without_tokens(outcome: Outcome) -> dict[str, Any]:
    return {
        step_id: output
        for step_id, output in outcome.steps.items()
        if not is_record(step_id, output)
    }


def _received(outcome: Outcome) -> dict[str, str | None]:
    """The name of the message that each `receive` has got; None if none came in time."""
    return {step_id: receipt.name for step_id, receipt in outcome.receipts.items()}


def _unread(outcome: Outcome) -> dict[str, int]:
    return dict(Counter(message.name for message in outcome.unread))


def _given_up(outcome: Outcome) -> dict[str, str]:
    return {
        failed.step_id: f"{failed.attempts} x {failed.error.type}"
        for failed in outcome.workflow.failed_steps
    }


def _different_ends(outcome: Outcome, at_first: Outcome) -> Iterator[str]:
    yield from _differences("status", outcome.status.value, at_first.status.value)
    yield from _differences("result", _end(outcome), _end(at_first))
    yield from _differences("restarts", outcome.workflow.generation, at_first.workflow.generation)
    yield from _differences("reason", outcome.workflow.reason, at_first.workflow.reason)


def _different_calls(seen: Seen, then: Seen) -> Iterator[str]:
    yield from seen.odd_arguments
    for place, arguments in then.arguments.items():
        ours, (_, step_id) = seen.arguments.get(place, arguments), place
        yield from _differences(f"arguments of step {step_id!r}", ours, arguments)
    for step_id in seen.repeated:
        yield f"step {step_id!r} was called again although it was recorded"
    for step_id, count in seen.called.items():
        allowed = then.uninterrupted(step_id) + seen.interrupted[step_id]
        if count > allowed and step_id not in seen.asked_for:
            yield f"step {step_id!r} was called {counted(count, 'time')}, at most {allowed} are due"


def _differences(what: str, now: Any, without: Any) -> Iterator[str]:
    if now != without:
        yield f"{what}: {now!r}, at first {without!r}"


def _end(outcome: Outcome) -> Any:
    """The result, or the error that aborted it."""
    error = outcome.workflow.error
    if outcome.status is Status.FINISHED or error is None:
        return outcome.workflow.result
    # The message of a deadline has the instant, which counts from the last retry.
    return error.type if _is_late(outcome) else f"{error.type}: {error.message}"


def _is_late(outcome: Outcome) -> bool:
    error = outcome.workflow.error
    return error is not None and error.type.endswith(DeadlineExceeded.__name__)


def _is_cut_short(outcome: Outcome) -> bool:
    """Whether its end came from outside or at an instant, wherever its handler was."""
    return outcome.status is Status.CANCELLED or _is_late(outcome)
