"""The tests of a contract: each is a rule, and a failure names the rule and its documentation."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar, cast

import pytest

from bluestreak_core.store import (
    Renewer,
    Store,
    SupportsChildren,
    SupportsCompensation,
    SupportsForks,
    SupportsMessages,
    SupportsPruning,
    SupportsPublishing,
    SupportsRegistry,
    SupportsRestart,
    SupportsSearch,
    SupportsThreadRenewal,
    SupportsTransactions,
    supports,
)

Test = TypeVar("Test", bound=Callable[..., Coroutine[Any, Any, None]])

PAGE = "writing-a-store.md"
"""The page of the documentation that the sections of `rule` are on."""

POWERS: Mapping[str, type] = MappingProxyType(
    {
        SupportsForks.__name__: SupportsForks,
        SupportsSearch.__name__: SupportsSearch,
        SupportsPruning.__name__: SupportsPruning,
        SupportsTransactions.__name__: SupportsTransactions,
        SupportsMessages.__name__: SupportsMessages,
        SupportsChildren.__name__: SupportsChildren,
        SupportsPublishing.__name__: SupportsPublishing,
        SupportsRestart.__name__: SupportsRestart,
        SupportsCompensation.__name__: SupportsCompensation,
        SupportsRegistry.__name__: SupportsRegistry,
        SupportsThreadRenewal.__name__: SupportsThreadRenewal,
        Renewer.__name__: SupportsThreadRenewal,
    }
)
"""The powers by the protocols that their rules are written in."""


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
    """The settings of a contract."""

    time_limit: ClassVar[timedelta] = timedelta(minutes=1)
    """How long a test may take. A longer one fails: a call of the store has not returned."""

    unproved: ClassVar[Mapping[type, str]] = MappingProxyType({})
    """Powers of the store that cannot be proved in these surroundings, each with the reason."""

    def skip_unless_proved(self, store: Store, power: type) -> None:
        """Skip a test, by name, if the store lacks a power or the power is unproved here."""
        if power in self.unproved:
            pytest.skip(f"{power.__name__} is unproved here: {self.unproved[power]}")
        if not supports(store, power):
            pytest.skip(f"{type(store).__name__} does not have {power.__name__}")


def rule(written: str, *needs: type) -> Callable[[Test], Test]:
    """Make a test of a contract: its name is the rule, `written` is where the rule is explained.

    That is a name in `bluestreak_core`, such as `Store.save_step`, or `#section` of the page on
    writing a store. A rule that is written in the protocol of a power holds for stores with that
    power; `needs` are further powers that the test needs. Any failure of the test is raised as
    `RuleBroken`; so is a time-out.
    """
    name_of_protocol = written.partition(".")[0]
    powers = (*filter(None, [POWERS.get(name_of_protocol)]), *needs)

    def make(test: Test) -> Test:
        name = test.__name__.removeprefix("test_").replace("_", " ")
        place = f"{PAGE}{written}" if written.startswith("#") else written

        @functools.wraps(test)
        async def checked(self: Rules, store: Store, *args: Any, **kwargs: Any) -> None:
            for power in powers:
                self.skip_unless_proved(store, power)
            limit = self.time_limit.total_seconds()
            try:
                async with asyncio.timeout(limit) as timeout:
                    await test(self, store, *args, **kwargs)
            except (Exception, pytest.fail.Exception) as error:
                seen = f"{type(error).__name__}: {error}"
                if timeout.expired():
                    seen = f"a call had not returned after {limit:g} s"
                raise RuleBroken(name, place, seen) from error

        checked.written = written  # type: ignore[attr-defined]
        return cast("Test", checked)

    return make
