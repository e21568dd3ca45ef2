"""Branches that are recorded as steps, one for each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from typing_extensions import override

from bluestreak_core.errors import InvalidArgument, StepFailed
from bluestreak_core.model import ErrorRecord, FailedStep
from bluestreak_core.retry import Retry
from bluestreak_core.run.attempts import Attempts, failure_of
from bluestreak_core.run.failure import error_record
from bluestreak_core.run.frame import Frame
from bluestreak_core.run.structure.branch import ends_everything
from bluestreak_core.run.structure.fan_out import Branches, Failed, Settled, Succeeded
from bluestreak_core.run.verb.step import ONCE


class StepBranches(Branches, ABC):
    """Branches in a scope, `frame`, each of which is the step whose id is its key.

    If failures are tolerated, that of a branch is recorded as its last attempt: the workflow keeps
    no list of them, which would grow with the number of branches.
    """

    def __init__(
        self,
        frame: Frame,
        what: str,
        keys: Iterable[object],
        *,
        retry: Retry | None,
        is_tolerant: bool,
    ) -> None:
        self._frame = frame
        self._retry = retry
        self._is_tolerant = is_tolerant
        self._ids = use_branches(frame, what, keys)
        self._keys = tuple(self._ids)

    @abstractmethod
    def _fn(self, key: str) -> Callable[..., Any]:
        """The function whose annotation says of which type the branch's value is."""

    @abstractmethod
    async def _call(self, key: str, step_id: str) -> Any:
        """Run a branch, record what it returns, and return that. Raises what the branch raises."""

    @property
    @override
    def keys(self) -> Sequence[str]:
        return self._keys

    @override
    def find(self, key: str) -> Settled | None:
        step_id = self._ids[key]
        try:
            if self._frame.is_recorded(step_id):
                return Succeeded(self._frame.recorded(step_id, self._fn(key)))
        except StepFailed as error:
            return _failed(error)
        if self._is_tolerant and step_id in self._frame.journal.history.attempts:
            attempts = Attempts(self._frame.journal, step_id, self._retry or ONCE)
            if attempts.are_used_up:
                return _failed(failure_of(self._frame.workflow_id, attempts.last_failure))
        return None

    @override
    async def run(self, key: str) -> Settled:
        step_id = self._ids[key]
        await self._frame.check("step", step_id)
        try:
            return Succeeded(await self._call(key, step_id))
        except Exception as error:
            if ends_everything(self._frame, error):
                raise
            return await self._settle(step_id, error)

    @override
    def close(self) -> None:
        """Nothing is to be done: a run is not parked while a step is pending."""

    @override
    async def skip(self, keys: Sequence[str]) -> None:
        """Nothing is left to do: what ran has been cancelled, and may have recorded steps."""

    @override
    def failed(self, key: str, record: ErrorRecord, attempts: int) -> Failed:
        failed = FailedStep(
            step_id=self._ids[key],
            error=record,
            attempts=attempts,
            failed_at=self._frame.journal.clock.now(),
        )
        return _failed(failure_of(self._frame.workflow_id, failed))

    async def _settle(self, step_id: str, error: Exception) -> Failed:
        """Record how a branch has failed, if that is tolerated and no attempt has recorded it."""
        if isinstance(error, StepFailed) and error.step_id == step_id:
            return _failed(error)
        if not self._is_tolerant:
            return Failed(error, error_record(error))
        attempts = Attempts(self._frame.journal, step_id, ONCE)
        with self._frame.operations.operation(attempts.kind, step_id):
            await self._frame.record(attempts.add(error))
        return _failed(failure_of(self._frame.workflow_id, attempts.last_failure))


def use_branches(frame: Frame, what: str, keys: Iterable[object]) -> dict[str, str]:
    """Take a step in a scope for each key: their whole ids, by key.

    Raises `InvalidId`, `InvalidArgument` and `DuplicateStep`.
    """
    ids: dict[str, str] = {}
    for key in keys:
        step_id = frame.step_id(key)
        plain = step_id.removeprefix(frame.prefix)
        if plain in ids:
            raise InvalidArgument(f"key of {what}", key, "two of its items have it")
        ids[plain] = step_id
    for step_id in ids.values():
        frame.use_step(step_id)
    return ids


def _failed(error: StepFailed) -> Failed:
    record = ErrorRecord(
        type=error.error_type, message=error.error_message, traceback=error.error_traceback
    )
    return Failed(error, record, error.attempts)
