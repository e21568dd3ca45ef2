"""A store that its worker dies of."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeVar

from typing_extensions import override

from bluestreak_core.model import Claim, NoMessage, Step
from bluestreak_core.store import Store, StoreWrapper
from bluestreak_core.store.wrapper import UNCOUNTED
from bluestreak_core.testing.sweep.rerun import Rerun

T = TypeVar("T")


class CrashingStore(StoreWrapper):
    """A worker's view of the store: it counts the calls, and kills the worker at one of them."""

    def __init__(self, store: Store, rerun: Rerun, crash: Callable[[], None]) -> None:
        super().__init__(store)
        self._rerun = rerun
        self._crash = crash
        self._about = ""

    @override
    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        if name in UNCOUNTED:
            return await call()
        calls, about, self._about = self._rerun.store_calls, self._about, ""
        calls.append(f"{name}{about}")
        point = self._rerun.point
        if point is None or point.number != len(calls):
            return await call()
        if point.after:
            with suppress(Exception):  # nobody is left to hear of an error
                await call()
        self._rerun.note_crash()
        self._crash()
        await asyncio.get_running_loop().create_future()
        raise AssertionError("a dead worker went on")

    @override
    async def save_step(self, claim: Claim, step_id: str, output: Any, now: datetime) -> Any:
        self._about = f" {step_id!r}"
        return await super().save_step(claim, step_id, output, now)

    @override
    async def save_nap(
        self, claim: Claim, nap_id: str, wake_up_at: datetime, now: datetime
    ) -> datetime:
        self._about = f" {nap_id!r}"
        return await super().save_nap(claim, nap_id, wake_up_at, now)

    @override
    async def receive(
        self, claim: Claim, step_id: str, names: Collection[str], now: datetime, *, give_up: bool
    ) -> Step | NoMessage:
        self._about = f" {step_id!r}"
        return await super().receive(claim, step_id, names, now, give_up=give_up)
