"""start, send, resolve, fork."""

from __future__ import annotations

from datetime import datetime

import pytest

from bluestreak_cli.json_form import dumped
from bluestreak_core.adapter import from_json, to_json
from tests.cli import shop
from tests.cli.arrange import call, document, error_of, printed, run_until


def test_start_creates_a_workflow_with_the_input_once() -> None:
    assert printed("start", "w", "fulfil", "--input", '{"cents": 5}') == (
        "workflow 'w' is started\n"
    )
    assert document("show", "w")["workflow"]["input"] == {"cents": 5}
    again = document("start", "w", "fulfil", "--input", "6")
    assert again == {"workflow_id": "w", "started": False}
    assert document("show", "w")["workflow"]["input"] == {"cents": 5}


def test_a_strict_start_refuses_another_input() -> None:
    printed("start", "w", "fulfil", "--input", "5")
    assert "without" not in error_of("start", "w", "fulfil", "--input", "6", "--strict", code=1)
    assert not document("start", "w", "fulfil", "--input", "5", "--strict")["started"]


def test_an_input_that_is_no_json_is_refused_before_anything_is_written() -> None:
    line = error_of("start", "w", "fulfil", "--input", "{cents", code=2)
    assert "--input is not JSON" in line
    assert "quote it for the shell" in line
    assert "does not exist" in error_of("show", "w", code=1)


def test_an_input_can_come_from_the_standard_input() -> None:
    call("start", "w", "fulfil", "--input", "-", input='["a"]\n')
    assert document("show", "w")["workflow"]["input"] == ["a"]


@pytest.mark.parametrize(
    "text",
    [
        '{"$datetime":"2030-01-01T00:00:00+00:00"}',
        '{"$uuid":"12345678123456781234567812345678"}',
        '{"$bytes":"AP8="}',
        '{"$float":"nan"}',
        '{"$$set":[1,2.5,true,null,"x"]}',
        '{"$a":1,"b":9223372036854775807}',
    ],
)
def test_values_that_json_lacks_are_written_and_read_in_the_form_of_the_adapters(text: str) -> None:
    printed("start", "w", "fulfil", "--input", text)
    shown = document("show", "w")["workflow"]["input"]
    assert to_json(from_json(dumped(shown))) == text


def test_a_handler_that_the_application_lacks_is_refused_unless_it_is_anothers() -> None:
    line = error_of("start", "w", "fulfill", code=1)
    assert "no handler 'fulfill', only 'fulfil'" in line
    assert "--foreign" in line
    assert "does not exist" in error_of("show", "w", code=1)
    assert printed("start", "w", "fulfill", "--foreign") == "workflow 'w' is started\n"


def test_a_start_can_be_put_off() -> None:
    printed("start", "later", "fulfil", "--delay", "2h")
    printed("start", "then", "fulfil", "--at", "2099-01-01T10:00+02:00")
    then = document("show", "then")["workflow"]
    assert then["start_at"] == "2099-01-01T08:00:00.000Z"
    later = document("show", "later")["workflow"]
    created, start = (datetime.fromisoformat(later[key]) for key in ("created_at", "start_at"))
    assert (start - created).total_seconds() == 7200


@pytest.mark.parametrize(
    "words", [["--delay", "soon"], ["--delay", "5"], ["--at", "noon"], ["--delay", "999999999w"]]
)
def test_what_is_no_span_and_no_time_is_a_wrong_usage(words: list[str]) -> None:
    assert "; write " in error_of("start", "w", "fulfil", *words, code=2)


def test_send_reaches_the_workflow_once() -> None:
    printed("start", "w", "wait")
    words = ("send", "w", "paid", "--payload", "[1]", "--message-id", "event-1")
    assert printed(*words) == "message 'paid' to workflow 'w' is sent\n"
    assert document(*words) == {"workflow_id": "w", "name": "paid", "sent": False}
    run_until("w", status="finished")
    assert document("show", "w")["workflow"]["result"] == [1]


def test_send_to_no_workflow_is_not_found() -> None:
    assert error_of("send", "w", "paid", code=1) == (
        "error: workflow 'w' does not exist; see 'bluestreak list'"
    )


def test_the_first_answer_of_a_callback_wins() -> None:
    printed("start", "w", "ask")
    run_until("w", status="waiting")
    (token,) = shop.tokens
    first = document("resolve", token, "--payload", '"yes"')
    assert first == {"is_first": True, "payload": "yes", "error": None}
    second = printed("resolve", token, "--error", "no", code=1)
    assert second == "the callback was answered before, with answer 'yes'\n"
    run_until("w", status="finished")


def test_a_token_can_come_from_the_standard_input_and_is_not_printed() -> None:
    printed("start", "w", "ask")
    run_until("w", status="waiting")
    (token,) = shop.tokens
    wrong = error_of("resolve", f"{token}x", code=1)
    assert "belongs to no callback" in wrong
    assert token not in wrong
    answered = call("resolve", "-", "--error", "too late", input=f"{token}\n")
    assert answered.stdout == "the callback is answered with error 'too late'\n"


def test_an_answer_is_either_a_payload_or_an_error() -> None:
    assert "exclude each other" in error_of(
        "resolve", "t", "--payload", "1", "--error", "e", code=2
    )
    assert "only one" in error_of("resolve", "-", "--payload", "-", code=2)


def test_fork_takes_over_what_was_recorded_before_a_step() -> None:
    printed("start", "w", "fulfil")
    run_until("w", status="finished")
    assert document("fork", "w", "v", "--before", "ship") == {
        "workflow_id": "v",
        "forked_from": "w",
        "forked": True,
    }
    assert [step["step_id"] for step in document("show", "v")["steps"]] == ["charge"]
    assert printed("fork", "w", "v") == "workflow 'v' exists already, nothing has changed\n"
    assert "'bluestreak show ID'" in error_of("fork", "w", "u", "--before", "pack", code=1)
