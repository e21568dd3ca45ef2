"""Running many branches, so many at a time: the engine of `map` and `parallel`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bluestreak_core.argument import has_real_type
from bluestreak_core.errors.text import counted
from bluestreak_core.model import ErrorRecord
from bluestreak_core.run.structure.branch import end_branches
from bluestreak_core.run.structure.outcomes import EndedBy
from bluestreak_core.run.structure.rule import FIRST_FAILURE, Rule


@dataclass(frozen=True, slots=True)
class Succeeded:
    """A branch has returned, and its value is recorded."""

    value: Any


@dataclass(frozen=True, slots=True)
class Failed:
    """A branch has failed for good, after so many attempts.

    `error` is what a handler gets; `record` is what it was in the branch.
    """

    error: Exception
    record: ErrorRecord
    attempts: int = 1


Settled = Succeeded | Failed


class Branches(Protocol):
    """The branches of one fan-out, each with a key."""

    @property
    def keys(self) -> Sequence[str]:
        """The keys of all branches, in order. No two are the same."""
        ...

    def find(self, key: str) -> Settled | None:
        """The recorded end of a branch; None if it has to run."""
        ...

    async def run(self, key: str) -> Settled:
        """Run a branch to its end, and record that end. What this raises ends the whole fan-out."""
        ...

    def close(self) -> None:
        """Note that the whole is decided, at that very moment: what still runs is cancelled."""
        ...

    async def skip(self, keys: Sequence[str]) -> None:
        """Leave branches that have not ended, since the others have decided the whole.

        Called in each run that gets here, so it has to bear repeats. If `Outcomes` are returned, it
        is recorded by then which branches are skipped.
        """
        ...

    def failed(self, key: str, record: ErrorRecord, attempts: int) -> Failed:
        """A failure that is known from the record of the whole fan-out only."""
        ...


class FanOut:
    """Runs branches until a rule says that no more have to.

    `ended` is what has become of those that have ended, by key.
    """

    def __init__(self, branches: Branches, rule: Rule) -> None:
        self.ended: dict[str, Settled] = {}
        self._branches = branches
        self._keys = branches.keys
        self._rule = rule
        self._failed = 0
        self._raised: list[Exception] = []
        self._is_closed = False

    @property
    def ended_by(self) -> EndedBy | None:
        """Why it has ended; None while branches have to run."""
        return self._rule.verdict(
            succeeded=len(self.ended) - self._failed,
            failed=self._failed,
            total=len(self._keys),
        )

    @property
    def errors(self) -> list[Exception]:
        """What the branches have failed with, in their order."""
        settled = (self.ended.get(key) for key in self._keys)
        return [found.error for found in settled if isinstance(found, Failed)]

    async def run(self, what: str, limit: int) -> None:
        """Run what is not recorded, at most `limit` branches at once; cancel what is left then.

        Raises an `ExceptionGroup` if a branch raises.
        """
        waiting = [key for key in self._keys if not self._is_found(key)]
        if waiting and self.ended_by is None:
            await self._run(waiting, limit)
        if self._raised:
            raise _group(what, [*self.errors, *self._raised])

    async def _run(self, waiting: Sequence[str], limit: int) -> None:
        # A fixed number of tasks, so that ten thousand branches do not make ten thousand of them.
        keys = iter(waiting)
        tasks = [asyncio.create_task(self._work(keys)) for _ in range(min(limit, len(waiting)))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            self._is_closed = True
            await end_branches(tasks)
        for task in tasks:
            error = None if task.cancelled() else task.exception()
            if error is not None and not has_real_type(error, _Over):
                raise error  # such as a group of an `Abort` and a `KeyboardInterrupt`

    async def _work(self, keys: Iterator[str]) -> None:
        for key in keys:
            try:
                settled = await self._branches.run(key)
            except Exception as error:  # noqa: BLE001 - `run` raises it
                self._raised.append(error)
                self._branches.close()
                raise _Over from None
            self._add(key, settled)
            if self._is_closed or self.ended_by is not None:
                self._branches.close()
                raise _Over

    def _is_found(self, key: str) -> bool:
        settled = self._branches.find(key)
        if settled is not None:
            self._add(key, settled)
        return settled is not None

    def _add(self, key: str, settled: Settled) -> None:
        self.ended[key] = settled
        self._failed += isinstance(settled, Failed)


class _Over(Exception):
    """Ends a task, and so the wait for all of them."""


async def results(branches: Branches, what: str, limit: int) -> list[Any]:
    """What the branches return, in order; the first failure ends the others.

    Raises an `ExceptionGroup` of the failures.
    """
    fan_out = FanOut(branches, FIRST_FAILURE)
    await fan_out.run(what, limit)
    if errors := fan_out.errors:
        await branches.skip([key for key in branches.keys if key not in fan_out.ended])
        raise _group(what, errors)
    values: list[Any] = []
    for key in branches.keys:
        settled = fan_out.ended[key]
        if isinstance(settled, Succeeded):  # as all are now
            values.append(settled.value)
    return values


def _group(what: str, errors: Sequence[Exception]) -> ExceptionGroup[Exception]:
    return ExceptionGroup(f"{counted(len(errors), 'failure')} in {what}", errors)
