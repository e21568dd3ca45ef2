"""What came of a write, in the words of the Store protocol."""

from __future__ import annotations

from typing import Any

from pymongo.errors import OperationFailure

from bluestreak_core.adapter import Outcome
from bluestreak_core.errors import CorruptDocument, UnstorableValue, ValueTooLarge
from bluestreak_core.store import MAX_VALUE_BYTES
from bluestreak_mongo.bson_rules import TOO_DEEP, BsonRules, unstorable
from bluestreak_mongo.driver import store_errors
from bluestreak_mongo.error_code import is_about_document, reason_of
from bluestreak_mongo.schema import WORKFLOWS
from bluestreak_mongo.schema import workflow as wf

_TOO_LARGE = (10334, 17419, 17420)


def check_written(outcome: Outcome, value: Any, what: str, beside: Any = None) -> None:
    """Raise the error of a write, if it has failed.

    `what` names the value that was to be written, for errors; `beside` is what else takes room in
    its document.
    """
    if isinstance(outcome, OperationFailure) and is_about_document(outcome):
        raise refusal(outcome, value, what, beside) from outcome
    _check(outcome)


def check_moved(outcome: Outcome, workflow_id: str) -> None:
    """Raise the error of a write that holds no value of the application, if it has failed."""
    if isinstance(outcome, OperationFailure) and is_about_document(outcome):
        reason = f"cannot be written: {reason_of(outcome)}"
        raise CorruptDocument(WORKFLOWS, workflow_id, wf.STATUS, reason) from outcome
    _check(outcome)


def refusal(
    error: OperationFailure, value: Any, what: str, beside: Any = None
) -> UnstorableValue | ValueTooLarge:
    """The error for a value that the server refuses to write; see `check_written`."""
    if error.code == TOO_DEEP:
        return unstorable(value, what, "it is nested too deep")
    if error.code in _TOO_LARGE:
        size, taken = (BsonRules().round_trip(held, what)[1] for held in (value, beside))
        return ValueTooLarge(what, size, MAX_VALUE_BYTES - taken)
    reason = f"the server refuses it: {reason_of(error)}"
    return UnstorableValue(what, "", type(value).__name__, reason)


def _check(outcome: Outcome) -> None:
    if outcome is not None:
        with store_errors():
            raise outcome
