"""`ctx.map_children`: a child for each of many items."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from typing_extensions import override

from bluestreak_core.argument import check_count, has_real_type
from bluestreak_core.concurrency import finish_despite_cancel
from bluestreak_core.errors import ChildFailed, FinalMistakes
from bluestreak_core.model import ErrorRecord, FailedStep
from bluestreak_core.run.attempts import Attempts, recorded_failure
from bluestreak_core.run.frame import Frame
from bluestreak_core.run.operations import Operation
from bluestreak_core.run.settling import AT_ONCE, NOT_NEEDED, gathered
from bluestreak_core.run.structure.decision import outcomes
from bluestreak_core.run.structure.fan_out import Branches, Failed, Settled, Succeeded, results
from bluestreak_core.run.structure.mapping import to_keys, to_list
from bluestreak_core.run.structure.outcomes import Outcomes
from bluestreak_core.run.structure.rule import to_rule
from bluestreak_core.run.structure.step_branches import use_branches
from bluestreak_core.run.verb.child import (
    Child,
    ChildRequest,
    converted,
    failed_child,
    result_of,
    start,
    to_child,
    to_child_id,
    to_on_parent_end,
)
from bluestreak_core.run.verb.message_wait import FOREVER
from bluestreak_core.run.verb.step import ONCE


async def map_children(
    frame: Frame,
    step_id: str,
    handler: object,
    items: Iterable[Any],
    *,
    limit: int,
    key: Callable[[Any], str] | None,
    tolerate: float | None,
    enough: int | None,
    on_parent_end: str,
) -> list[Any] | Outcomes[Any]:
    """Run a child for each item, at most `limit` at once."""
    await frame.check("map_children", step_id)
    with FinalMistakes():
        whole = frame.step_id(step_id)
        what = f"map_children {whole!r}"
        frame.family.check_supported()
        to_on_parent_end(whole, on_parent_end)
        listed = to_list(what, items)
        keys = to_keys(what, listed, key)
        check_count(f"limit of {what}", limit, least=1)
        rule = to_rule(what, len(listed), tolerate, enough)
        frame.use_step(whole, "map_children")
        branches = _Children(
            frame.scoped(step_id),
            what,
            keys,
            listed,
            handler,
            on_parent_end=on_parent_end,
            limit=limit,
            is_tolerant=rule is not None,
        )
    with branches.pending(whole):
        if rule is None:
            return await results(branches, what, limit)
        return await outcomes(frame, "map_children", whole, branches, limit=limit, rule=rule)


class _Children(Branches):
    """A child for each item, by the key of the item. The end of each is a step.

    If failures are tolerated, that of a child is recorded as an attempt of its step: the workflow
    keeps no list of them, which would grow with the number of children.
    """

    def __init__(
        self,
        frame: Frame,
        what: str,
        keys: Sequence[Any],
        items: Sequence[Any],
        handler: object,
        *,
        on_parent_end: str,
        limit: int,
        is_tolerant: bool,
    ) -> None:
        self._frame = frame
        handler_id = frame.known.to_id(handler)
        self._function = None if has_real_type(handler, str) else frame.known.by_id[handler_id]
        self._handler = handler
        self._on_parent_end = on_parent_end
        self._limit = limit
        self._is_tolerant = is_tolerant
        self._is_closed = False
        self._whole: Operation | None = None
        self._ids = use_branches(frame, what, keys)
        self._keys = tuple(self._ids)
        self._items = dict(zip(self._keys, items, strict=True))
        self._child_ids = {name: to_child_id(frame, own_id) for name, own_id in self._ids.items()}

    @contextmanager
    def pending(self, step_id: str) -> Iterator[None]:
        """Say that the whole is pending: the run may be parked while it waits for its children.

        Otherwise a run could be parked between the end that decides the whole and what follows from
        that, since it waits for other children; and nobody would wake it before they end.
        """
        if self._frame.replay is not None:  # it would wait for this operation to be suspended, too
            yield
            return
        with self._frame.operations.operation("map_children", step_id) as self._whole:
            yield

    @property
    @override
    def keys(self) -> Sequence[str]:
        return self._keys

    @override
    def find(self, key: str) -> Settled | None:
        frame, step_id = self._frame, self._ids[key]
        try:
            if frame.is_recorded(step_id):
                stored = frame.journal.history.steps[step_id]
                return Succeeded(converted(frame, self._child_ids[key], self._function, stored))
        except ChildFailed as error:
            return _failed(error)
        if self._is_tolerant and step_id in frame.journal.history.attempts:
            attempts = Attempts(frame.journal, step_id, ONCE)
            if attempts.are_used_up:
                failed = attempts.last_failure
                return self.failed(key, failed.error, failed.attempts)
        return None

    @override
    async def run(self, key: str) -> Settled:
        frame, step_id = self._frame, self._ids[key]
        if self._whole is not None and not self._is_closed:
            self._whole.wake_up_at = FOREVER
        await frame.check("child", step_id)
        request = ChildRequest(
            handler=self._handler,
            input=self._items[key],
            workflow_id=None,
            on_parent_end=self._on_parent_end,
        )
        with FinalMistakes():
            asked = to_child(frame, step_id, request)
        with frame.operations.operation("start of child", step_id):
            # If this is skipped meanwhile, the child must exist by then, or it is not cancelled.
            await finish_despite_cancel(self._start(asked))
        try:
            return Succeeded(await result_of(frame, step_id, asked, self._record_failure))
        except ChildFailed as error:
            return _failed(error)

    @override
    def close(self) -> None:
        self._is_closed = True
        if self._whole is not None:
            self._whole.wake_up_at = None

    @override
    async def skip(self, keys: Sequence[str]) -> None:
        """Cancel those that have begun.

        They begin in the order of their keys, so many at once. So the first ones of these have
        begun, with small gaps.
        """
        size = max(self._limit, AT_ONCE)
        for first in range(0, len(keys), size):
            children = [self._child_ids[key] for key in keys[first : first + size]]
            found = await gathered(self._skip(child_id) for child_id in children)
            if not any(found):
                return

    @override
    def failed(self, key: str, record: ErrorRecord, attempts: int) -> Failed:
        now = self._frame.journal.clock.now()
        failed = failed_child(self._ids[key], self._child_ids[key], record, now)
        error = recorded_failure(self._frame.workflow_id, failed)
        return Failed(error, record, attempts)

    async def _start(self, asked: Child) -> None:
        await self._frame.record(start(self._frame, asked.new))

    async def _skip(self, child_id: str) -> bool:
        """Cancel a child unless it has ended; False if there is none."""
        family = self._frame.family
        found = await family.find(child_id)
        if found is None:
            return False
        await family.cancel(found, NOT_NEEDED)
        return True

    async def _record_failure(self, failed: FailedStep) -> None:
        if self._is_tolerant:
            attempts = Attempts(self._frame.journal, failed.step_id, ONCE)
            await attempts.add_last(failed.error)
        else:
            await self._frame.journal.fail_step(failed)


def _failed(error: ChildFailed) -> Failed:
    record = ErrorRecord(
        type=error.error_type, message=error.error_message, traceback=error.error_traceback
    )
    return Failed(error, record)
