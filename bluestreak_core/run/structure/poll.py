"""`ctx.poll`: a step that is called again and again until it has a result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import count, takewhile
from types import UnionType
from typing import Any, Generic, NamedTuple, Self, TypeVar, Union, get_args, get_origin

from bluestreak_core.argument import (
    Duration,
    check_function,
    has_real_type,
    to_positive_timedelta,
    to_timedelta,
)
from bluestreak_core.clock import in_milliseconds
from bluestreak_core.codec import ABSENT
from bluestreak_core.errors import FinalMistakes, PollTimeout
from bluestreak_core.retry import Backoff, Retry
from bluestreak_core.run.frame import Frame
from bluestreak_core.run.handler import to_backoff
from bluestreak_core.run.hook import WaitKind
from bluestreak_core.run.verb.nap import nap_end
from bluestreak_core.run.verb.step import call_once, call_until_done, check_retry

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """The value that the function of a `poll` returns to end it, with the result."""

    value: T


async def poll(
    frame: Frame,
    step_id: str,
    check: Callable[..., Any],
    args: tuple[Any, ...],
    *,
    every: Duration | Backoff,
    timeout: Duration | None,
    retry: Retry | None,
    state: Any,
) -> Any:
    """Call `check(state, *args)` as a step until it returns `Done`, with naps in between."""
    await frame.check("poll", step_id)
    with FinalMistakes():
        whole = frame.step_id(step_id)
        check_function("ctx.poll", "poll", whole, check)
        pauses = _to_pauses(whole, every)
        span = None if timeout is None else to_timedelta(f"timeout of poll {whole!r}", timeout)
        check_retry(f"step {whole!r}", retry)
        frame.use_step(whole, "poll")
        steps = frame.journal.history.steps
        if whole in steps:  # no check is called any more, and their ids stay taken
            for check_id in takewhile(steps.__contains__, map(f"{whole}/{{}}".format, count(1))):
                frame.use_step(check_id)
        frame.use_nap(frame.nap_id(step_id))
    types = _Types.of(frame, check)
    if frame.is_recorded(whole):
        return frame.recorded_as(whole, types.result)
    polling = _Polling(frame.scoped(step_id), whole, check, args, retry, types)
    end = None if span is None else await polling.end(span)
    return await polling.until_done(state, pauses, end)


class _Types(NamedTuple):
    """The annotations of a state and of a result, from that of a check: `Done[Parcel] | State`."""

    state: Any
    result: Any

    @classmethod
    def of(cls, frame: Frame, check: Callable[..., Any]) -> Self:
        """The annotations for the codec; `ABSENT` where there is none."""
        if frame.journal.conversion is None:
            return cls(ABSENT, ABSENT)
        returned = frame.journal.conversion.returned(check)
        members = get_args(returned) if get_origin(returned) in {Union, UnionType} else (returned,)
        results = [get_args(kind)[0] for kind in members if get_origin(kind) is Done]
        states = [kind for kind in members if kind is not Done and get_origin(kind) is not Done]
        return cls(_union(states), _union(results))


def _union(kinds: list[Any]) -> Any:
    return Union[tuple(kinds)] if kinds else ABSENT  # noqa: UP007 - a metaclass may overload `|`


class _Polling:
    """The checks of one poll."""

    def __init__(  # noqa: PLR0917 - it has one caller
        self,
        frame: Frame,
        step_id: str,
        check: Callable[..., Any],
        args: tuple[Any, ...],
        retry: Retry | None,
        types: _Types,
    ) -> None:
        self._frame = frame
        self._journal = frame.journal
        self._step_id = step_id
        self._check = check
        self._args = args
        self._retry = retry
        self._types = types
        self._done: Done[Any] | None = None

    async def end(self, span: timedelta) -> datetime:
        """When the poll ends at the latest, as recorded by the first run that got here."""
        return await self._nap(self._step_id, span)

    async def until_done(self, state: Any, pauses: Backoff, end: datetime | None) -> Any:
        """Check until there is a result. Raises `PollTimeout`."""
        number = 1
        while True:
            state = await self._check_once(number, state)
            if self._done is not None:
                return self._done.value
            await self._pause(number, pauses.delay(number), end)
            number += 1

    async def _check_once(self, number: int, state: Any) -> Any:
        """The state after a check; once it has a result, `_done` is set."""
        frame, step_id = self._frame, self._frame.step_id(str(number))
        frame.use_step(step_id)
        if frame.is_recorded(step_id):
            return frame.recorded_as(step_id, self._types.state)
        await frame.check("poll", step_id)
        limit = frame.policy.step_timeout
        calling = partial(call_once, frame, step_id, self._check, (state, *self._args), limit)
        saving = partial(self._save, step_id)
        if self._retry is not None:
            return await call_until_done(frame, step_id, self._retry, calling, saving)
        with frame.operations.operation("step", step_id):
            return await frame.record(saving(await calling()))

    async def _save(self, step_id: str, output: Any) -> Any:
        """Record a result under the id of the poll, and anything else under that of the check."""
        if not has_real_type(output, Done):
            return await self._journal.save_typed(step_id, output, self._types.state)
        value = await self._journal.save_typed(self._step_id, output.value, self._types.result)
        self._done = Done(value)
        return None

    async def _pause(self, number: int, span: timedelta, end: datetime | None) -> None:
        """Nap until the next check, unless that would be too late."""
        nap_id = self._frame.nap_id(str(number))
        self._frame.use_nap(nap_id)
        recorded = self._journal.history.naps.get(nap_id)
        if recorded is None and end is not None and self._journal.clock.now() + span > end:
            await self._frame.doze("poll", self._step_id, end, WaitKind.POLL)
            raise PollTimeout(self._frame.workflow_id, self._step_id, number)
        await self._frame.doze("nap", nap_id, recorded or await self._nap(nap_id, span))

    async def _nap(self, nap_id: str, span: timedelta) -> datetime:
        """The recorded end of a nap; record it first if it is not."""
        clock = self._journal.clock
        return await nap_end(self._frame, nap_id, lambda: in_milliseconds(clock.now() + span))


def _to_pauses(step_id: str, every: Duration | Backoff) -> Backoff:
    """The pauses between two checks; the same one each time is a backoff, too."""
    name = f"every of poll {step_id!r}"
    if has_real_type(every, Backoff):
        to_backoff(name, every)
        return every
    span = to_positive_timedelta(name, every)
    return Backoff(initial=span, max_delay=span, factor=1, jitter=0)
