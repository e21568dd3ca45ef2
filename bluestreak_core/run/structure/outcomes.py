"""What has become of many branches, of which some may have failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, TypeVar, cast, overload

from typing_extensions import override

from bluestreak_core.errors.text import counted
from bluestreak_core.model import ErrorRecord

T = TypeVar("T")


class BranchStatus(StrEnum):
    """How a branch has ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"


class EndedBy(StrEnum):
    """Why a fan-out has ended: all branches have, enough succeeded, or too many failed."""

    ALL = "all"
    ENOUGH = "enough"
    FAILURES = "failures"


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchOutcome(Generic[T]):
    """How one branch has ended.

    `value` is set if it succeeded, `error` if it failed. A skipped branch has not run to its end:
    enough others had succeeded, or too many had failed.
    """

    key: str
    status: BranchStatus
    value: T | None = None
    error: ErrorRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes(Sequence[BranchOutcome[T]]):
    """How all branches have ended, in their order."""

    ended_by: EndedBy
    outcomes: tuple[BranchOutcome[T], ...]
    exceptions: Mapping[str, Exception] = field(repr=False, compare=False)
    """The errors that `results` raises, by key."""

    @property
    def succeeded(self) -> Sequence[BranchOutcome[T]]:
        """The branches that returned, each with its `value`."""
        return self._of(BranchStatus.SUCCEEDED)

    @property
    def failed(self) -> Sequence[BranchOutcome[T]]:
        """The branches that raised, each with its `error`."""
        return self._of(BranchStatus.FAILED)

    @property
    def skipped(self) -> Sequence[BranchOutcome[T]]:
        """The branches that have not run to their end."""
        return self._of(BranchStatus.SKIPPED)

    @property
    def errors(self) -> dict[str, ErrorRecord]:
        """The errors of the branches that failed, by key."""
        return {found.key: found.error for found in self.outcomes if found.error is not None}

    def results(self) -> list[T]:
        """The values of the branches that succeeded. Raises an `ExceptionGroup` if any failed."""
        if self.exceptions:
            errors = list(self.exceptions.values())
            raise ExceptionGroup(counted(len(errors), "failure"), errors)
        return [cast("T", found.value) for found in self.succeeded]

    def _of(self, status: BranchStatus) -> tuple[BranchOutcome[T], ...]:
        return tuple(found for found in self.outcomes if found.status is status)

    @overload
    def __getitem__(self, index: int) -> BranchOutcome[T]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[BranchOutcome[T]]: ...

    @override
    def __getitem__(self, index: int | slice) -> Any:
        return self.outcomes[index]

    @override
    def __iter__(self) -> Iterator[BranchOutcome[T]]:
        return iter(self.outcomes)

    @override
    def __len__(self) -> int:
        return len(self.outcomes)
