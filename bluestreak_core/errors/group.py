"""Matching exceptions and groups of them by class, whatever these classes override."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice

from bluestreak_core.errors.family import Abort, UsageError

MAX_PARTS = 1000
"""How many errors of a group are examined; the others are ignored."""

Kinds = type[BaseException] | tuple[type[BaseException], ...]


def is_of(error: BaseException, kinds: Kinds) -> bool:
    """Whether `except kinds` would catch the error."""
    classes = kinds if isinstance(kinds, tuple) else (kinds,)
    return any(type.__subclasscheck__(kind, type(error)) for kind in classes)


def parts(error: BaseException, closed: Kinds = ()) -> Iterator[BaseException]:
    """The error and, if it is a group, the errors in it, outermost first.

    Groups of a `closed` kind are not opened.
    """
    pending = deque([error])
    for _ in range(MAX_PARTS):
        if not pending:
            return
        part = pending.popleft()
        yield part
        if is_of(part, BaseExceptionGroup) and not is_of(part, closed):
            # Read past a subclass that overrides `exceptions`.
            exceptions = BaseExceptionGroup.exceptions.__get__(part)
            pending.extend(islice(exceptions, MAX_PARTS))


def has(error: BaseException, kinds: Kinds) -> bool:
    """Whether the error or a part of it is one of these."""
    return any(is_of(part, kinds) for part in parts(error))


def is_all(error: BaseException, kinds: Kinds) -> bool:
    """Whether the error is one of these, or a group of nothing else."""
    return all(
        is_of(part, kinds) or is_of(part, BaseExceptionGroup) for part in parts(error, closed=kinds)
    )


def is_abort(error: BaseException) -> bool:
    """Whether the error or a part of it is an `Abort`."""
    return has(error, Abort)


def is_final_mistake(error: BaseException) -> bool:
    """Whether the error or a part of it is a final `UsageError`."""
    return any(is_of(part, UsageError) and _is_final(part) for part in parts(error))


def _is_final(mistake: BaseException) -> bool:
    try:
        return bool(mistake.is_final is True)  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001 - a foreign class may raise anything
        return False
