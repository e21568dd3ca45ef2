"""What is handed over for a callback, and what comes back."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from typing import Any

import pytest

from bluestreak_core import InvalidToken
from bluestreak_core.callback import Answer, CallbackToken, Missing, is_record

IDS = ["order-17", "a/b.c", "a.b?&=#", "é🐦", "\n", '"], ["', "x" * 500]


@pytest.mark.parametrize("step_id", IDS, ids=ascii)
@pytest.mark.parametrize("workflow_id", IDS, ids=ascii)
def test_a_token_names_its_place_whatever_the_ids_are(workflow_id: str, step_id: str) -> None:
    token = CallbackToken.draw(workflow_id, step_id, 7, 2)
    assert re.fullmatch(r"[A-Za-z0-9._-]+", token.text)
    read = CallbackToken.read(token.text)
    assert read == token
    assert read.is_recorded_as(token.record)
    assert (read.workflow_id, read.record_id) == (workflow_id, f"{step_id}/token/7")


def test_each_token_has_a_secret_of_its_own() -> None:
    first, second = (CallbackToken.draw("w", "s", 1, 0) for _ in range(2))
    assert len(first.secret) == len(second.secret) == 43  # 256 bits, 6 in each character
    assert not first.is_recorded_as(second.record)
    assert first.secret not in repr(first)
    assert first.secret not in repr(first.record)


@pytest.mark.parametrize(
    "record", [None, 7, [], {}, {"workflow_id": "w"}, {"workflow_id": "w", "sha256": 7}], ids=str
)
def test_what_is_no_record_of_a_token_is_that_of_none(record: Any) -> None:
    token = CallbackToken.draw("w", "s", 1, 0)
    assert not token.is_recorded_as(record)
    assert not is_record(token.record_id, record) or record.keys() == token.record.keys()


def test_a_token_of_another_workflow_is_not_the_recorded_one() -> None:
    token = CallbackToken.draw("w", "s", 1, 0)
    copied = token.record | {"workflow_id": "original"}
    assert not token.is_recorded_as(copied)


def test_only_the_step_of_a_token_is_a_record_of_one() -> None:
    token = CallbackToken.draw("w", "s", 12, 0)
    assert is_record("s/token/12", token.record)
    for step_id in ("s", "s/token", "s/token/0", "s/token/12/x", "token/12"):
        assert not is_record(step_id, token.record)
    assert not is_record("s/token/12", token.record | {"more": 1})


@pytest.mark.parametrize("place", ["[" * 100_000, "1" * 10_000, '["w","s",' + "9" * 5000 + "]"])
def test_a_text_that_would_take_long_to_read_is_no_token(place: str) -> None:

    text = urlsafe_b64encode(place.encode()).decode()
    with pytest.raises(InvalidToken):
        CallbackToken.read(f"{text}.secret")


ANSWERS = [
    Answer(),
    Answer(payload={"error": "of the application"}),
    Answer(payload={"payload": 1}),
    Answer(error=""),
    *(Answer(missing=missing) for missing in Missing),
]


@pytest.mark.parametrize("answer", ANSWERS, ids=str)
def test_an_answer_is_read_as_it_was_stored(answer: Answer) -> None:
    assert Answer.read(answer.stored) == answer


@pytest.mark.parametrize("stored", [7, None, {}, {"error": 7}, {"missing": "it"}], ids=str)
def test_what_is_no_answer_of_ours_is_a_payload(stored: Any) -> None:
    assert Answer.read(stored) == Answer(payload=stored)
