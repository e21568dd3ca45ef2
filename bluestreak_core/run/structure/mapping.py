"""`ctx.map`: the same step for each of many items."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from typing_extensions import override

from bluestreak_core.argument import (
    Duration,
    check_callable,
    check_count,
    check_function,
    has_real_type,
)
from bluestreak_core.errors import FinalMistakes, InvalidArgument
from bluestreak_core.retry import Retry
from bluestreak_core.run.frame import Frame
from bluestreak_core.run.structure.decision import outcomes
from bluestreak_core.run.structure.fan_out import results
from bluestreak_core.run.structure.outcomes import Outcomes
from bluestreak_core.run.structure.rule import to_rule
from bluestreak_core.run.structure.step_branches import StepBranches
from bluestreak_core.run.verb.step import ONCE, call_once, call_until_done, check_retry, time_limit


async def map_items(
    frame: Frame,
    step_id: str,
    fn: Callable[[Any], Any],
    items: Iterable[Any],
    *,
    limit: int,
    key: Callable[[Any], str] | None,
    retry: Retry | None,
    timeout: Duration | None,
    tolerate: float | None,
    enough: int | None,
) -> list[Any] | Outcomes[Any]:
    """Call `fn(item)` as a step for each item, at most `limit` at once."""
    await frame.check("map", step_id)
    with FinalMistakes():
        whole = frame.step_id(step_id)
        what = f"map {whole!r}"
        check_function("ctx.map", "map", whole, fn)
        listed = to_list(what, items)
        keys = to_keys(what, listed, key)
        check_count(f"limit of {what}", limit, least=1)
        call_limit = time_limit(frame, whole, timeout)
        check_retry(f"step {whole!r}", retry)
        rule = to_rule(what, len(listed), tolerate, enough)
        frame.use_step(whole, "map")
        branches = _Items(
            frame.scoped(step_id),
            what,
            keys,
            listed,
            fn,
            limit=call_limit,
            retry=retry,
            is_tolerant=rule is not None,
        )
    if rule is None:
        return await results(branches, what, limit)
    return await outcomes(frame, "map", whole, branches, limit=limit, rule=rule)


class _Items(StepBranches):
    """The items of a map by their keys."""

    def __init__(
        self,
        frame: Frame,
        what: str,
        keys: Sequence[Any],
        items: Sequence[Any],
        fn: Callable[[Any], Any],
        *,
        limit: timedelta | None,
        retry: Retry | None,
        is_tolerant: bool,
    ) -> None:
        super().__init__(frame, what, keys, retry=retry, is_tolerant=is_tolerant)
        self._items = dict(zip(self.keys, items, strict=True))
        self._function = fn
        self._limit = limit

    @override
    def _fn(self, key: str) -> Callable[..., Any]:
        return self._function

    @override
    async def _call(self, key: str, step_id: str) -> Any:
        frame, fn = self._frame, self._function
        calling = partial(call_once, frame, step_id, fn, (self._items[key],), self._limit)
        if self._retry is None and not self._is_tolerant:
            with frame.operations.operation("step", step_id):
                return await frame.record(frame.journal.save_step(step_id, await calling(), fn))
        saving = partial(frame.journal.save_step, step_id, fn=fn)
        policy = self._retry or ONCE
        return await call_until_done(
            frame, step_id, policy, calling, saving, is_tolerated=self._is_tolerant
        )


def to_list(what: str, items: object) -> Sequence[Any]:
    """The items of a map or the like. Refuses what has another order in each run."""
    name = f"items of {what}"
    if has_real_type(items, str) or has_real_type(items, bytes):
        raise InvalidArgument(name, items, f"expected a list, not {type(items).__name__}")
    if has_real_type(items, set) or has_real_type(items, frozenset):
        raise InvalidArgument(name, items, "a set has another order in each process: sort it")
    if not has_real_type(items, Iterable):
        raise InvalidArgument(name, items, "expected a list")
    return list(items)


def to_keys(what: str, items: Sequence[Any], key: Callable[[Any], str] | None) -> list[Any]:
    """The keys of the items: what `key` returns, or their places."""
    if key is None:
        return [str(place) for place in range(len(items))]
    check_callable(f"key of {what}", key)
    return [key(item) for item in items]
