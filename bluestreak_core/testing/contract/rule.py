"""What the test of a contract says when it fails: the rule, and where the rule is written."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, ClassVar, TypeVar, cast

import pytest

Test = TypeVar("Test", bound=Callable[..., Coroutine[Any, Any, None]])

PAGE = "writing-a-store.md"
"""The page of the documentation that the sections of `rule` are on."""


class RuleBroken(AssertionError):
    """A store breaks a rule of its contract. What was seen is the `__cause__`."""

    def __init__(self, rule: str, written: str, seen: str) -> None:
        self.rule = rule
        self.written = written
        self.seen = seen
        super().__init__(rule, written, seen)

    def __str__(self) -> str:
        return f"{self.rule} ({self.written})\n{self.seen}"


class Rules:
    """What all contracts have."""

    time_limit: ClassVar[timedelta] = timedelta(minutes=1)
    """How long a test may take. One that takes longer fails: a call of the store never returned."""


def rule(written: str) -> Callable[[Test], Test]:
    """Makes a test of a contract: its name is the rule, and `written` is where it is explained.

    That is a name in `bluestreak_core`, such as `Store.save_step`, or `#section` of the page on
    writing a store. Whatever fails in the test is raised as `RuleBroken`; so is a time-out.
    """

    def make(test: Test) -> Test:
        name = test.__name__.removeprefix("test_").replace("_", " ")
        place = f"{PAGE}{written}" if written.startswith("#") else written

        @functools.wraps(test)
        async def checked(self: Rules, *args: Any, **kwargs: Any) -> None:
            limit = self.time_limit.total_seconds()
            try:
                async with asyncio.timeout(limit) as timeout:
                    await test(self, *args, **kwargs)
            except (Exception, pytest.fail.Exception) as error:
                seen = f"{type(error).__name__}: {error}"
                if timeout.expired():
                    seen = f"a call had not returned after {limit:g} s"
                raise RuleBroken(name, place, seen) from error

        checked.written = written  # type: ignore[attr-defined]
        return cast("Test", checked)

    return make
