"""`ctx.parallel`: named branches at the same time, each with a context of its own scope."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

from typing_extensions import override

from bluestreak_core.argument import check_count, check_function, has_real_type
from bluestreak_core.errors import FinalMistakes, InvalidArgument
from bluestreak_core.run.frame import Frame
from bluestreak_core.run.replay import Replay
from bluestreak_core.run.structure.branch import call_branch
from bluestreak_core.run.structure.decision import outcomes
from bluestreak_core.run.structure.fan_out import results
from bluestreak_core.run.structure.outcomes import Outcomes
from bluestreak_core.run.structure.rule import to_rule
from bluestreak_core.run.structure.step_branches import StepBranches


async def parallel(
    frame: Frame,
    step_id: str,
    functions: Mapping[str, Callable[..., Any]],
    in_scope: Callable[[Frame], Any],
    *,
    limit: int | None,
    tolerate: float | None,
    enough: int | None,
) -> dict[str, Any] | Outcomes[Any]:
    """Call each function with a context of its own; `in_scope` makes that for a scope's frame."""
    await frame.check("parallel", step_id)
    with FinalMistakes():
        whole = frame.step_id(step_id)
        what = f"parallel {whole!r}"
        named = _checked(what, whole, functions)
        if limit is not None:
            check_count(f"limit of {what}", limit, least=1)
        rule = to_rule(what, len(named), tolerate, enough)
        frame.use_step(whole, "parallel")
        branches = _Named(frame.scoped(step_id), what, named, in_scope, rule is not None)
    at_once = len(named) if limit is None else limit
    if frame.replay is not None:
        await branches.explore(frame.replay, at_once)
    if rule is None:
        values = await results(branches, what, at_once)
        return dict(zip(branches.keys, values, strict=True))
    return await outcomes(frame, "parallel", whole, branches, limit=at_once, rule=rule)


class _Named(StepBranches):
    """Functions by name."""

    def __init__(
        self,
        frame: Frame,
        what: str,
        functions: Mapping[str, Callable[..., Any]],
        in_scope: Callable[[Frame], Any],
        is_tolerant: bool,
    ) -> None:
        super().__init__(frame, what, functions, retry=None, is_tolerant=is_tolerant)
        self._what = what
        self._functions = functions
        self._in_scope = in_scope
        self._explorers: dict[str, asyncio.Task[Any]] = {}

    async def explore(self, replay: Replay, limit: int) -> None:
        """Run over their records all branches that may have begun, also those that have ended.

        They may have registered compensations.
        """
        keys = self._begun(limit)
        tasks = await replay.explore([self._call_branch(key) for key in keys])
        self._explorers = dict(zip(keys, tasks, strict=True))

    @override
    def _fn(self, key: str) -> Callable[..., Any]:
        return self._functions[key]

    @override
    async def _call(self, key: str, step_id: str) -> Any:
        frame, fn = self._frame, self._functions[key]
        if frame.replay is not None and key in self._explorers:
            value = await frame.replay.outcome(step_id, self._explorers[key])
        else:
            value = await self._call_branch(key)
        with frame.operations.operation("branch", step_id):
            return await frame.record(frame.journal.save_step(step_id, value, fn))

    def _call_branch(self, key: str) -> Coroutine[Any, Any, Any]:
        context = self._in_scope(self._frame.scoped(key))
        return call_branch(f"branch {key!r} of {self._what}", self._functions[key], context)

    def _begun(self, limit: int) -> list[str]:
        """The branches that have ended or have records, and the first `limit` of the others.

        No more than these are called before others have ended, since they are called in order.
        """
        history, prefix = self._frame.journal.history, self._frame.prefix
        records = (*history.steps, *history.naps, *history.attempts)
        plain = [used.removeprefix(prefix) for used in records if used.startswith(prefix)]
        recorded = {name for used in plain for name in _heads(used)}
        unended = [key for key in self.keys if self.find(key) is None]
        unbegun = {key for key in unended[limit:] if key not in recorded}
        return [key for key in self.keys if key not in unbegun]


def _heads(used_id: str) -> Iterator[str]:
    """The names that a branch may have to which an id in the scope of all branches belongs."""
    parts = used_id.split("/")
    return ("/".join(parts[:count]) for count in range(1, len(parts) + 1))


def _checked(what: str, step_id: str, functions: object) -> dict[str, Callable[..., Any]]:
    if not has_real_type(functions, Mapping):
        reason = 'expected functions by name, as in {"first": fn}'
        raise InvalidArgument(f"branches of {what}", functions, reason)
    named = dict(functions)
    for name, function in named.items():
        check_function("ctx.parallel", f"branch {name!r} of", step_id, function)
    return named
