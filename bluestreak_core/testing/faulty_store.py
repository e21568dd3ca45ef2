"""A store that fails, by plan or by chance."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar, assert_never

from typing_extensions import override

from bluestreak_core.argument import Duration, check_count, to_timedelta
from bluestreak_core.errors import BluestreakError, InvalidArgument, StoreUnavailable
from bluestreak_core.store import Store, StoreWrapper
from bluestreak_core.store.wrapper import UNCOUNTED

T = TypeVar("T")


class Fault(StrEnum):
    """What can go wrong with one call of a store."""

    FAIL = "fail"
    """The call is not carried out, and raises `StoreUnavailable`."""

    LOSE = "lose"
    """The call is carried out, and raises `StoreUnavailable`: the acknowledgement is lost."""

    DELAY = "delay"
    """The call is carried out later."""

    DUPLICATE = "duplicate"
    """The call is carried out twice; the first answer counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Injected:
    """A fault that was injected into the call of this name and number."""

    number: int
    call: str
    fault: Fault


class FaultyStore(StoreWrapper):
    """Passes calls on to a store, and injects faults into some of them.

    Calls are numbered from 1 in the order in which they begin. `init`, `close` and the four waits
    are not counted, and never fail. `faults` gives the fault of the n-th call. With a `seed`, any
    other call gets one of the `kinds` with the probability `rate`: the same faults for the same
    seed and order of calls. You may change `rate` at any time. A delay takes up to `delay` on the
    store's clock, and exactly that if it comes from `faults`.

    `injected` lists the faults so far.

    Raises `InvalidArgument` for a number below 1, a rate that is not a probability, and no `kinds`.
    """

    def __init__(
        self,
        store: Store,
        *,
        faults: Mapping[int, Fault] | None = None,
        seed: int | None = None,
        rate: float = 0.1,
        kinds: Collection[Fault] = tuple(Fault),
        delay: Duration = 1,
    ) -> None:
        super().__init__(store)
        if not 0 <= rate <= 1:
            raise InvalidArgument("rate", rate, "expected a probability, from 0 to 1")
        if not kinds:
            raise InvalidArgument("kinds", kinds, "expected at least one fault")
        self._planned = {
            check_count("number of a call", number, least=1): Fault(fault)
            for number, fault in (faults or {}).items()
        }
        self._chance = None if seed is None else random.Random(seed)  # noqa: S311 - nothing secret
        self._kinds = sorted(Fault(kind) for kind in kinds)
        self._delay = to_timedelta("delay", delay)
        self.rate = rate
        self.calls = 0
        """How many calls have begun."""
        self.injected: list[Injected] = []

    @override
    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        if name in UNCOUNTED:
            return await call()
        self.calls += 1
        number = self.calls
        fault, share = self._fault(number)
        if fault is None:
            return await call()
        self.injected.append(Injected(number=number, call=name, fault=fault))
        broken = StoreUnavailable(f"{fault}: injected into call {number}, {name}")
        match fault:
            case Fault.FAIL:
                raise broken
            case Fault.LOSE:
                await call()
                raise broken
            case Fault.DELAY:
                await self.clock.sleep(self._delay * share)
                return await call()
            case Fault.DUPLICATE:
                answer = await call()
                with suppress(BluestreakError):  # only the first answer counts
                    await call()
                return answer
            case _:
                assert_never(fault)

    def _fault(self, number: int) -> tuple[Fault | None, float]:
        """The fault of a call, and its share of the longest delay."""
        if number in self._planned:
            return self._planned[number], 1.0
        if self._chance is None or self._chance.random() >= self.rate:
            return None, 0.0
        return self._chance.choice(self._kinds), self._chance.random()
