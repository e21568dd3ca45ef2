"""Rules of the contracts: where each is written, and which of them a wrong store breaks."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bluestreak_core
from bluestreak_core.testing import (
    ForkContract,
    RenewerContract,
    RuleBroken,
    SearchContract,
    StoreContract,
    TransactionContract,
)
from bluestreak_core.testing.contract.rule import Rules
from tests.contract.arrange import cases
from tests.contract.wrong_stores import WRONG, WrongStore

PAGE = Path(__file__).parents[2] / "docs" / "writing-a-store.md"
CONTRACTS: list[type[Rules]] = [
    StoreContract,
    SearchContract,
    ForkContract,
    TransactionContract,
    RenewerContract,
]


def _rules() -> Iterator[Any]:
    for contract in CONTRACTS:
        for name, test in inspect.getmembers(contract, inspect.iscoroutinefunction):
            if name.startswith("test_"):
                yield pytest.param(test, id=f"{contract.__name__}-{name}")


@pytest.mark.parametrize("test", list(_rules()))
def test_a_rule_is_written_where_it_says(test: Any) -> None:
    written: str = test.written
    if written.startswith("#"):
        headings = re.findall(r"^##+ (.*)$", PAGE.read_text(), re.MULTILINE)
        sections = {re.sub(r"[^\w]+", "-", heading.lower()) for heading in headings}
        assert written.removeprefix("#") in sections
    else:
        protocol, member = written.split(".")
        assert inspect.getdoc(getattr(getattr(bluestreak_core, protocol), member))


@pytest.mark.asyncio
@pytest.mark.parametrize("wrong", WRONG, ids=str)
async def test_a_wrong_store_fails_by_the_name_of_the_rule(wrong: WrongStore) -> None:
    broken = []
    for case in cases(wrong.test):
        try:
            await wrong.test(wrong.suite, wrong.make(), **case)
        except RuleBroken as error:
            broken.append(str(error))
    rule = wrong.test.__name__.removeprefix("test_").replace("_", " ")
    assert broken, f"a store whose fault is to break {rule!r} has passed"
    assert all(error.startswith(f"{rule} (") for error in broken)


@pytest.mark.asyncio
async def test_a_rule_that_takes_too_long_is_broken() -> None:
    wrong = next(one for one in WRONG if str(one) == "NeverReturns")
    with pytest.raises(RuleBroken, match=r"hints return \(.*#hints\)\na call had not returned"):
        await wrong.test(wrong.suite, wrong.make())
