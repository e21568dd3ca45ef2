"""`ctx.race`: the first of several branches to end, which is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, NoReturn, TypeVar

from bluestreak_core.argument import check_callable, has_real_type
from bluestreak_core.errors import FinalMistakes, InvalidArgument
from bluestreak_core.run.frame import Frame
from bluestreak_core.run.operations import BRANCHES
from bluestreak_core.run.replay import Replay
from bluestreak_core.run.structure.branch import call_branch, end_branches

T = TypeVar("T")

Branch = Callable[[], Awaitable[Any]]


class Winner(NamedTuple, Generic[T]):
    """The branch of a race that ended first, and what it returned."""

    name: str
    value: T


async def race(frame: Frame, step_id: str, branches: Mapping[str, Branch]) -> Winner[Any]:
    """Run the branches until the first of them ends, or run only the recorded winner."""
    await frame.check("race", step_id)
    with FinalMistakes():
        whole = frame.step_id(step_id)
        what = f"race {whole!r}"
        if not branches:
            reason = "a race has branches, as in ctx.race(id, first=fn, second=fn)"
            raise InvalidArgument(f"branches of {what}", branches, reason)
        for name, branch in branches.items():
            check_callable(f"branch {name!r} of {what}", branch)
        frame.use_step(whole, "race")
    if frame.replay is not None:
        return await _explored(frame, frame.replay, whole, branches)
    if frame.is_recorded(whole):
        ended = await _replayed(what, branches, frame.journal.history.steps[whole])
        frame.operations.has_new = True  # or `ctx.log` would wait for the records of the losers
        return ended
    ended, looks = await _first(frame, what, branches)
    name = await _that_took_a_message(frame, looks) or ended.name
    with frame.operations.operation("race", whole):
        recorded = await frame.record(frame.journal.save_value(whole, name))
    if recorded != ended.name:
        await frame.leave_to_another_run()
    return ended


async def _first(
    frame: Frame, what: str, branches: Mapping[str, Branch]
) -> tuple[Winner[Any], dict[str, list[str]]]:
    """Run all until one has ended; cancel the losers, and let them end.

    Also returns the losers that were cancelled while they looked for a message, by name, with the
    steps that they were to record.
    """
    marks = {name: object() for name in branches}
    tasks = {
        name: asyncio.create_task(_call(marks[name], f"branch {name!r} of {what}", branch))
        for name, branch in branches.items()
    }
    looks: dict[str, list[str]] = {}
    try:
        await asyncio.wait(tasks.values(), return_when=asyncio.FIRST_COMPLETED)
        name, task = next((name, task) for name, task in tasks.items() if task.done())
        looks = {
            loser: [look.id for look in frame.operations.looks(mark)]
            for loser, mark in marks.items()
        }
    finally:
        await end_branches(tuple(tasks.values()))
    return Winner(name, task.result()), looks


async def _call(mark: object, what: str, branch: Branch) -> Any:
    """Call a branch in a task of its own, which leaves its mark on all that begins in it."""
    BRANCHES.set((*BRANCHES.get(), mark))
    return await call_branch(what, branch)


async def _that_took_a_message(frame: Frame, looks: Mapping[str, Sequence[str]]) -> str | None:
    """The loser whose last look took a message: it has won, or the message would be lost."""
    for name, step_id in ((name, step_id) for name, ids in looks.items() for step_id in ids):
        with frame.operations.operation("receive", step_id):
            step = await frame.journal.find_step(step_id)
        if step is not None and step.receipt is not None and not step.receipt.timed_out:
            return name
    return None


async def _replayed(what: str, branches: Mapping[str, Branch], recorded: Any) -> Winner[Any]:
    name = _winner(what, branches, recorded)
    return Winner(name, await call_branch(f"branch {name!r} of {what}", branches[name]))


async def _explored(
    frame: Frame, replay: Replay, step_id: str, branches: Mapping[str, Branch]
) -> Winner[Any]:
    """Run all branches over their records: the losers have registered compensations, too."""
    what = f"race {step_id!r}"
    tasks = await replay.explore(
        [call_branch(f"branch {name!r} of {what}", branch) for name, branch in branches.items()]
    )
    if frame.is_recorded(step_id):
        name = _winner(what, branches, frame.journal.history.steps[step_id])
        task = dict(zip(branches, tasks, strict=True))[name]
        return Winner(name, await replay.outcome(step_id, task))
    for task in tasks:
        if task.done():
            task.result()  # one that raises has ended the race
            break
    return await replay.suspend("race", step_id)


def _winner(what: str, branches: Mapping[str, Branch], recorded: Any) -> str:
    if not has_real_type(recorded, str) or recorded not in branches:
        _refuse(what, branches, recorded)
    return recorded


def _refuse(what: str, branches: Mapping[str, Branch], name: object) -> NoReturn:
    with FinalMistakes():
        reason = f"the recorded winner is {name!r}: keep its branch while such workflows live"
        raise InvalidArgument(f"branches of {what}", list(branches), reason)
