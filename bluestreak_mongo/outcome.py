"""What came of a write, in the words of the Store protocol."""

from __future__ import annotations

from typing import Any

from pymongo.errors import OperationFailure

from bluestreak_core.errors import ValueTooLarge
from bluestreak_core.values import MAX_VALUE_BYTES
from bluestreak_mongo.bson_rules import TOO_DEEP, BsonRules, unstorable
from bluestreak_mongo.driver import store_errors
from bluestreak_mongo.group_commit import Outcome

_TOO_LARGE = (10334, 17419, 17420)


def check_written(outcome: Outcome, value: Any = None, what: str = "", beside: Any = None) -> None:
    """Raise what came of a write, if it was not written.

    `what` names the value that was to be written, for errors; `beside` is what else takes room in
    its document.
    """
    if outcome is None:
        return
    code = outcome.code if isinstance(outcome, OperationFailure) else None
    if code == TOO_DEEP:
        raise unstorable(value, what, "it is nested too deep") from outcome
    if code in _TOO_LARGE:
        size, taken = (BsonRules().round_trip(one, what)[1] for one in (value, beside))
        raise ValueTooLarge(what, size, MAX_VALUE_BYTES - taken) from outcome
    with store_errors():
        raise outcome
