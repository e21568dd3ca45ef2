from __future__ import annotations

from datetime import UTC
from typing import Any
from unittest.mock import Mock

import bson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bluestreak_core import PlainRules, UnstorableValue, ValueTooLarge
from bluestreak_core.testing.contract import UNSTORABLE
from bluestreak_mongo import BsonRules

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
KEYS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    TEXT,
    st.binary(),
    st.uuids(),
    st.datetimes(timezones=st.sampled_from([None, UTC])),
)
# A dict with the keys $ref and $id is a DBRef to MongoDB's drivers.
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.dictionaries(KEYS.filter(lambda key: key != "$ref"), inner),
    ),
)


@given(VALUES)
@settings(deadline=None)
def test_both_rules_give_back_the_same_value_of_the_same_size(value: Any) -> None:
    assert PlainRules().round_trip(value, "v") == BsonRules().round_trip(value, "v")


@given(VALUES)
@settings(deadline=None)
def test_a_round_trip_of_a_round_trip_changes_nothing(value: Any) -> None:
    once, _ = PlainRules().round_trip(value, "v")
    assert PlainRules().round_trip(once, "v")[0] == once


@pytest.mark.parametrize("name", UNSTORABLE)
def test_both_rules_refuse_the_same_place(name: str) -> None:
    value, path, type_name = UNSTORABLE[name]
    for rules in (PlainRules(), BsonRules()):
        with pytest.raises(UnstorableValue) as refused:
            rules.round_trip(value, "output of step 's'")
        assert (refused.value.path, refused.value.type_name) == (path, type_name)
        assert str(refused.value).startswith(f"output of step 's'{path and ' at ' + path}: ")


def test_a_size_above_the_room_is_refused() -> None:
    for rules in (PlainRules(), BsonRules()):
        assert rules.round_trip("abc", "v", room=8) == ("abc", 8)
        with pytest.raises(ValueTooLarge, match="v takes 8 bytes, the limit is 7"):
            rules.round_trip("abc", "v", room=7)


@pytest.mark.parametrize(
    "value",
    [
        bson.ObjectId(),
        bson.Decimal128("1.10"),
        bson.Timestamp(1, 2),
        bson.Regex("a", "i"),
        bson.MinKey(),
        bson.DBRef("c", 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_bson_rules_take_the_types_of_bson(value: object) -> None:
    assert BsonRules().round_trip({"a": [value]}, "v")[0] == {"a": [value]}
    with pytest.raises(UnstorableValue, match=r"v at \['a'\]\[0\]"):
        PlainRules().round_trip({"a": [value]}, "v")


def test_bson_rules_name_the_place_behind_a_type_of_bson() -> None:
    with pytest.raises(UnstorableValue) as refused:
        BsonRules().round_trip({"id": bson.ObjectId(), "tags": [{1}]}, "v")
    assert (refused.value.path, refused.value.type_name) == ("['tags'][0]", "set")


def test_an_error_about_a_type_that_no_store_holds_names_codecs() -> None:
    reason = "no store holds this type; annotate it and use PydanticCodec to convert it"
    for rules in (PlainRules(), BsonRules()):
        with pytest.raises(UnstorableValue) as refused:
            rules.round_trip([{1}], "v")
        assert str(refused.value) == f"v at [0]: set cannot be stored: {reason}"


def test_plain_rules_do_not_believe_what_a_mock_says_of_itself() -> None:
    with pytest.raises(UnstorableValue, match=r"v at \[0\]: Mock cannot be stored: no store holds"):
        PlainRules().round_trip([Mock(spec=dict)], "v")
