"""What a package says when the libraries of its extra are not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needing(extra: str, *modules: str) -> Iterator[None]:
    """Name the extra to install if one of its modules is missing, or is another one of that name.

    An `ImportError` for anything else passes.
    """
    try:
        yield
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] not in modules:
            raise
        remedy = f"pip install 'bluestreak[{extra}]'"
        raise type(error)(f"{error.msg}: {remedy}", name=error.name, path=error.path) from error
