"""Values and records come back from their JSON as they were."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bluestreak_core import machine
from bluestreak_core.adapter import (
    from_json,
    record_from_columns,
    record_from_json,
    record_to_columns,
    record_to_json,
    to_columns,
    to_json,
)
from bluestreak_core.clock import in_milliseconds
from bluestreak_core.errors import CorruptDocument
from bluestreak_core.model import (
    Attempt,
    ClaimEntry,
    ErrorRecord,
    FailedStep,
    Nap,
    Status,
    Step,
    Workflow,
)
from bluestreak_core.store import PlainRules
from bluestreak_core.store.values import same_value
from bluestreak_core.testing.contract.value import VALUES

NOW = datetime(2030, 1, 1, 2, 3, 4, 5000, tzinfo=UTC)
ERROR = ErrorRecord(type="E", message="m\0", traceback="t")


_same_examples = settings(derandomize=True, deadline=None)


def _in_utc(naive: datetime) -> datetime:
    return in_milliseconds(naive.replace(tzinfo=UTC))


_TEXT = st.text(st.characters(codec="utf-8"))
_KEYS = st.text(st.characters(codec="utf-8", exclude_characters="\0")) | st.sampled_from(
    ["$", "$bytes", "$$bytes", "$float", "$unknown"]
)
_INSTANTS = st.datetimes().map(_in_utc)
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | _TEXT
    | st.binary()
    | st.uuids()
    | _INSTANTS
)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner) | st.dictionaries(_KEYS, inner), max_leaves=20
)
_COUNTS = st.integers(0, 2**53)
_ERRORS = st.builds(ErrorRecord, type=_TEXT, message=_TEXT, traceback=_TEXT)
_MAYBE_INSTANTS = st.none() | _INSTANTS
_ENTRIES = st.builds(ClaimEntry, worker=_TEXT, claimed_at=_INSTANTS, after_crash=st.booleans())
_FAILED = st.builds(FailedStep, step_id=_TEXT, error=_ERRORS, attempts=_COUNTS, failed_at=_INSTANTS)
_WORKFLOWS = st.builds(
    Workflow,
    workflow_id=_TEXT,
    handler_id=_TEXT,
    input=_VALUES,
    status=st.sampled_from(Status),
    timeout_at=_INSTANTS,
    claims=_COUNTS,
    claim_token=st.none() | _TEXT,
    claim_log=st.lists(_ENTRIES).map(tuple),
    created_at=_MAYBE_INSTANTS,
    result=_VALUES,
    error=st.none() | _ERRORS,
    failed_steps=st.lists(_FAILED).map(tuple),
    reason=st.none() | _TEXT,
)
_STEPS = st.builds(Step, workflow_id=_TEXT, step_id=_TEXT, output=_VALUES, saved_at=_MAYBE_INSTANTS)
_NAPS = st.builds(
    Nap, workflow_id=_TEXT, nap_id=_TEXT, wake_up_at=_INSTANTS, saved_at=_MAYBE_INSTANTS
)
_ATTEMPTS = st.builds(
    Attempt,
    workflow_id=_TEXT,
    step_id=_TEXT,
    round=_COUNTS,
    number=_COUNTS,
    error=_ERRORS,
    retry_at=_MAYBE_INSTANTS,
    saved_at=_INSTANTS,
)
_RECORDS = _WORKFLOWS | _STEPS | _NAPS | _ATTEMPTS

WORKFLOW = Workflow(
    workflow_id="w",
    handler_id="h",
    input={"$uuid": b"\0"},
    status=Status.FAILED,
    timeout_at=NOW,
    error=ERROR,
    claim_log=(ClaimEntry(worker="x", claimed_at=NOW, after_crash=True),),
    failed_steps=(FailedStep(step_id="s", error=ERROR, attempts=2, failed_at=NOW),),
)


def _same_record(found: object, record: object) -> bool:
    """Whether two records are equal, or would be if NaN were equal to itself."""
    pairs = [
        (getattr(found, field.name), getattr(record, field.name))
        for field in fields(type(record))  # type: ignore[arg-type]
    ]
    return type(found) is type(record) and all(
        one == other or same_value(one, other) for one, other in pairs
    )


# Values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [stored for _, stored in VALUES], ids=repr)
def test_what_every_store_holds_comes_back_with_its_type(value: Any) -> None:
    found = from_json(to_json(value))
    assert (found, repr(found)) == (value, repr(value))


@_same_examples
@given(_VALUES)
def test_any_value_comes_back(value: Any) -> None:
    stored, _ = PlainRules().round_trip(value, "value")
    assert same_value(from_json(to_json(stored)), stored)


@_same_examples
@given(_VALUES)
def test_the_text_is_ascii_and_standard_json(value: Any) -> None:
    text = to_json(value)
    assert text.isascii()
    assert text.isprintable()
    json.loads(text, parse_constant=pytest.fail)


def test_what_is_not_a_number_comes_back_as_such() -> None:
    found = from_json(to_json([math.nan, math.inf, -math.inf, -0.0]))
    assert math.isnan(found[0])
    assert found[1:3] == [math.inf, -math.inf]
    assert math.copysign(1, found[3]) == -1


@pytest.mark.parametrize("value", [{1}, object(), 1j, timedelta(1), {"a": [print]}])
def test_a_type_that_the_rules_refuse_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="has no JSON form"):
        to_json(value)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "NaN", "[Infinity]", "[" * 100_000),
        *('{"$type": "os.system"}', '{"$bytes": 1}', '{"$bytes": "?"}', '{"$uuid": "x"}'),
        *('{"$datetime": "today"}', '{"$float": "1.0"}', '{"$": ""}'),
    ],
)
def test_a_text_that_no_value_has_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_json(text)


# Records ------------------------------------------------------------------------------------------


@_same_examples
@given(_RECORDS)
def test_any_record_comes_back_from_its_text(record: Workflow | Step | Nap | Attempt) -> None:
    assert _same_record(record_from_json(type(record), record_to_json(record)), record)


@_same_examples
@given(_RECORDS)
def test_any_record_comes_back_from_its_row(record: Workflow | Step | Nap | Attempt) -> None:
    row = record_to_columns(record)
    assert all(isinstance(column, str | int | None) for column in row.values())
    assert _same_record(record_from_columns(type(record), row), record)


@_same_examples
@given(_INSTANTS, _INSTANTS)
def test_instants_in_columns_sort_as_they_do_in_time(one: datetime, other: datetime) -> None:
    rows = [to_columns(Workflow, {"timeout_at": at})["timeout_at"] for at in (one, other)]
    assert sorted(rows, key=str) == [
        to_columns(Workflow, {"timeout_at": at})["timeout_at"] for at in sorted((one, other))
    ]


def test_a_change_of_the_state_machine_has_columns() -> None:
    moved = machine.change.finish(UUID(int=7), NOW)
    assert to_columns(Workflow, moved.set) == {
        "status": "finished",
        "timeout_at": "2030-01-01T02:03:04.005+00:00",
        "result": '{"$uuid":"00000000000000000000000000000007"}',
        "finished_at": "2030-01-01T02:03:04.005+00:00",
    }


def test_a_missing_field_is_read_as_its_default() -> None:
    needed = {"workflow_id", "handler_id", "status", "timeout_at"}
    row = {name: item for name, item in record_to_columns(WORKFLOW).items() if name in needed}
    expected = Workflow(
        workflow_id="w", handler_id="h", input=None, status=Status.FAILED, timeout_at=NOW
    )
    assert record_from_columns(Workflow, row) == expected
    assert record_from_json(Workflow, json.dumps(row)) == expected


def test_an_unknown_field_is_ignored_and_kept() -> None:
    text = json.dumps(json.loads(record_to_json(WORKFLOW)) | {"priority": {"$new": 1}})
    with pytest.raises(CorruptDocument):
        record_from_json(Workflow, text)
    text = json.dumps(json.loads(record_to_json(WORKFLOW)) | {"priority": 7})
    assert record_from_json(Workflow, text) == WORKFLOW
    moved = replace(WORKFLOW, failures=3)
    text = record_to_json(moved, onto=text)
    assert json.loads(text)["priority"] == 7
    assert record_from_json(Workflow, text) == moved
    assert record_from_columns(Workflow, record_to_columns(WORKFLOW) | {"priority": 7}) == WORKFLOW


@pytest.mark.parametrize(
    ("field", "column"),
    [
        ("status", "asleep"),
        ("status", 1),
        ("handler_id", b"h"),
        ("failures", "1"),
        ("failures", True),
        ("timeout_at", "soon"),
        ("timeout_at", "2030-01-01T00:00:00"),
        ("timeout_at", 5),
        ("input", "{"),
        ("input", b"{}"),
        ("claim_log", "{}"),
        ("claim_log", '[{"worker":"x"}]'),
        ("error", '{"type":1,"message":"m","traceback":"t"}'),
        ("error", '{"type":"E"}'),
    ],
)
def test_a_column_that_cannot_be_read_is_named(field: str, column: Any) -> None:
    row = record_to_columns(WORKFLOW) | {field: column}
    with pytest.raises(CorruptDocument, match=rf"^workflows document 'w': '{field}' "):
        record_from_columns(Workflow, row)


def test_a_row_without_what_it_needs_is_named() -> None:
    row = record_to_columns(WORKFLOW) | {"handler_id": None}
    with pytest.raises(CorruptDocument, match=r"^workflows document 'w': .*handler_id"):
        record_from_columns(Workflow, row)


@pytest.mark.parametrize("text", ["{", "[]", '"w"', "{}"])
def test_a_text_that_is_no_record_is_corrupt(text: str) -> None:
    with pytest.raises(CorruptDocument, match=r"^naps document None: "):
        record_from_json(Nap, text)
