"""Running a test of a contract without pytest's collection."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any


def cases(test: Any) -> Iterator[dict[str, Any]]:
    """The arguments of each case of a parametrised test; one without arguments for a plain one."""
    axes = []
    for mark in getattr(test, "pytestmark", ()):
        if mark.name == "parametrize":
            names, values = mark.args[0], mark.args[1]
            axes.append([_case(names, value) for value in values])
    for chosen in itertools.product(*axes):
        yield {name: value for case in chosen for name, value in case.items()}


def _case(names: str | tuple[str, ...], value: Any) -> dict[str, Any]:
    if isinstance(names, str):
        return {names: value}
    return dict(zip(names, value, strict=True))
