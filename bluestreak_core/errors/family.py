"""The three families of errors, and the one exception that a handler raises on purpose."""

from __future__ import annotations


class BluestreakError(Exception):
    """The root of the three families. `args` are the facts, so every error can be pickled."""


class UsageError(BluestreakError):
    """The caller's mistake: the same call will fail again until the program is changed."""

    is_final = False
    """Whether it aborts the workflow whose handler lets it pass: another try would only repeat it.

    So it does if a call of the handler's `Context` has raised it, or if `Retry` has.
    """


class FinalMistakes:
    """A block in which each `UsageError` is one of a handler, and final."""

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None and issubclass(type(error), UsageError):
            error.is_final = True  # type: ignore[attr-defined]


class StateError(BluestreakError):
    """The world moved on: the call was sound, but the workflow is not where it needs to be."""


class StoreError(BluestreakError):
    """The store is unwell, or will not serve us."""


class Abort(Exception):
    """Raise it in a handler or a step: the workflow is aborted at once, and not tried again."""
