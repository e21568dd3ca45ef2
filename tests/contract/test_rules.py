"""Rules of the contracts: where each is written, and which of them a wrong store breaks."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bluestreak_core
from bluestreak_core.testing import RuleBroken, StoreContract
from tests.contract.arrange import cases
from tests.contract.wrong_stores import WRONG, WrongStore

PAGE = Path(__file__).parents[2] / "docs" / "writing-a-store.md"


def _rules() -> Iterator[Any]:
    for name, test in inspect.getmembers(StoreContract, inspect.iscoroutinefunction):
        if name.startswith("test_"):
            yield pytest.param(test, id=name)


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
    wrong = next(store for store in WRONG if str(store) == "NeverReturns")
    with pytest.raises(RuleBroken, match=r"hints return \(.*#hints\)\na call had not returned"):
        await wrong.test(wrong.suite, wrong.make())


# Powers ------------------------------------------------------------------------------------------

SUITE = """
import pytest
from sqlite_store import SQLiteStore

from bluestreak_core import SupportsForks
from bluestreak_core.testing import StoreContract
from bluestreak_memory import MemoryStore


class TestAllPowers(StoreContract):
    @pytest.fixture
    def store(self):
        return MemoryStore()


class TestUnproved(TestAllPowers):
    unproved = {SupportsForks: "the disk is too small"}


class TestNoPower(StoreContract):
    @pytest.fixture
    def store(self):
        return SQLiteStore(":memory:")
"""
ONE_RULE_A_POWER = {
    "SupportsForks": "test_a_fork_is_a_new_workflow_that_is_due",
    "SupportsSearch": "test_workflows_are_counted",
    "SupportsPruning": "test_what_has_been_retried_is_kept",
    "SupportsTransactions": "test_a_recorded_step_is_not_called_again",
    "SupportsMessages": "test_a_message_is_received_once",
    "SupportsChildren": "test_a_parent_is_unsettled",
    "SupportsPublishing": "test_a_repeated_publish_changes_nothing",
    "SupportsRestart": "test_a_repeated_restart_changes_nothing",
    "SupportsCompensation": "test_a_promise_outlasts_a_claim",
    "SupportsRegistry": "test_a_later_record_replaces_the_earlier_one",
    "SupportsThreadRenewal": "test_a_renewer_extends_leases_while_the_loop_is_blocked",
}


@pytest.fixture
def run_suite(tmp_path: Path) -> Callable[[str], str]:
    """Runs one rule of each power on a class of `SUITE`; what pytest reports of it."""
    (tmp_path / "test_suite.py").write_text(SUITE)
    shutil.copy(PAGE.parent / "examples" / "sqlite_store.py", tmp_path)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nfilterwarnings = error\nasyncio_default_fixture_loop_scope = function\n"
    )

    def run(name: str) -> str:
        rules = " or ".join(ONE_RULE_A_POWER.values())
        options = ["-rsE", "-p", "no:cacheprovider", "-k", f"{name} and ({rules})"]
        command = [sys.executable, "-m", "pytest", *options]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False
        ).stdout

    return run


@pytest.mark.slow
def test_a_store_without_powers_skips_their_rules_by_name(
    run_suite: Callable[[str], str],
) -> None:
    report = run_suite("TestNoPower")
    assert re.search(r"= 11 skipped, \d+ deselected in", report)
    for power in ONE_RULE_A_POWER:
        assert f": SQLiteStore does not have {power}\n" in report


@pytest.mark.slow
def test_one_class_proves_every_power_of_a_store(run_suite: Callable[[str], str]) -> None:
    report = run_suite("TestAllPowers")
    assert re.search(r"= 9 passed, 1 skipped, \d+ deselected, 1 error in", report)
    assert ": MemoryStore does not have SupportsThreadRenewal\n" in report
    assert "to prove SupportsTransactions, give it a fixture named 'application'" in report


@pytest.mark.slow
def test_a_power_that_is_unproved_is_skipped_with_its_reason(
    run_suite: Callable[[str], str],
) -> None:
    report = run_suite("TestUnproved")
    assert re.search(r"= 8 passed, 2 skipped, \d+ deselected, 1 error in", report)
    assert ": SupportsForks is unproved here: the disk is too small\n" in report
