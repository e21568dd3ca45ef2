"""The three families of errors, and `Abort`, which a handler raises."""

from __future__ import annotations


class BluestreakError(Exception):
    """The root of the three families. Its `args` are the facts, so every error can be pickled."""


class UsageError(BluestreakError):
    """The caller's mistake: the same call fails again until the program is changed."""

    is_final = False
    """Whether it aborts the workflow whose handler does not catch it.

    True if a call of the handler's `Context`, `Backoff` or `Retry` raised it: another run would
    only repeat it.
    """


class FinalMistakes:
    """Marks each `UsageError` that leaves its block as final. Can be entered repeatedly."""

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None and issubclass(type(error), UsageError):
            error.is_final = True  # type: ignore[attr-defined]


class StateError(BluestreakError):
    """The world moved on: the call was valid, but the workflow is not in the state it needs."""


class StoreError(BluestreakError):
    """The store is unwell, or refuses the call."""


class Abort(Exception):
    """Raise it in a handler or a step to abort the workflow at once, without another try."""
