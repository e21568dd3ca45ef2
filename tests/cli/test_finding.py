"""list, count, show and tail."""

from __future__ import annotations

import json

import pytest

from bluestreak_cli.tailing import pause_after
from tests.cli.arrange import call, document, documents, error_of, printed, run_until

EVIL = "e\x1b[31m\u202e\x07vil"
SAFE = r"e\x1b[31m\u202e\x07vil"


def ids(*words: str) -> list[str]:
    return [summary["workflow_id"] for summary in documents("list", *words)]


def test_list_filters_by_all_that_the_library_can() -> None:
    for workflow_id, handler in {"a-1": "fulfil", "a-2": "wait", "p": "parent"}.items():
        printed("start", workflow_id, handler)
    run_until("a-1", status="finished")
    run_until("a-2", "p", "child", status="waiting")
    assert sorted(ids()) == ["a-1", "a-2", "child", "p"]
    assert ids("--status", "finished") == ["a-1"]
    assert sorted(ids("--status", "finished", "--status", "idle", "--prefix", "a-")) == [
        "a-1",
        "a-2",
    ]
    assert ids("--handler", "parent") == ["p"]
    assert ids("--parent", "p") == ["child"]
    assert sorted(ids("--waiting-for", "paid")) == ["a-2", "child", "p"]
    assert ids("--created-until", "2001-01-01") == []
    assert len(ids("--created-from", "1h")) == 4


def test_list_goes_on_behind_the_cursor_that_it_names() -> None:
    for number in range(3):
        printed("start", f"w-{number}", "wait")
    first = call("list", "--prefix", "w", "--limit", "2")
    assert [line.split()[0] for line in first.stdout.splitlines()] == ["ID", "w-0", "w-1"]
    cursor = first.stderr.removeprefix("there may be more: --after ").strip()
    assert ids("--prefix", "w", "--limit", "2", "--after", cursor) == ["w-2"]
    assert ids("--prefix", "w", "--limit", "1", "--all") == ["w-0", "w-1", "w-2"]
    assert "after" in error_of("list", "--after", "nonsense", code=2)


def test_list_shows_what_one_wants_to_know_of_each_state() -> None:
    printed("start", "failed", "break", "--input", '"out of\\nstock"')
    printed("start", "gone", "fulfil")
    printed("cancel", "gone", "--reason", "no longer wanted")
    printed("start", "waits", "wait")
    run_until("failed", status="aborted")
    run_until("waits", status="waiting")
    rows = {line.split()[0]: line for line in printed("list").splitlines()}
    assert rows["failed"].endswith("ValueError: out of")
    assert rows["gone"].endswith("no longer wanted")
    assert rows["waits"].endswith("waits for paid")


def test_nothing_to_list_is_no_error() -> None:
    result = call("list")
    assert (result.stdout, result.stderr) == ("", "no workflow matches\n")
    assert printed("list", "--json") == ""


def test_a_status_that_is_none_is_a_wrong_usage() -> None:
    line = error_of("list", "--status", "dead", code=2)
    assert "'--status'" in line
    assert line.endswith("; see 'bluestreak list --help'")


def test_count_counts_by_status_and_by_handler() -> None:
    printed("start", "a", "wait")
    printed("start", "b", "fulfil")
    assert document("count")["idle"] == 2
    assert document("count", "--by-handler") == {"fulfil": 1, "wait": 1}
    assert "idle          2\n" in printed("count")


def test_show_prints_what_describe_knows() -> None:
    printed("start", "w", "fulfil", "--input", "[5]")
    run_until("w", status="finished")
    lines = printed("show", "w").splitlines()
    assert lines[0] == "workflow 'w' of handler 'fulfil': finished"
    assert any(line.endswith("step 'charge': 'receipt-1'") for line in lines)
    form = document("show", "w")
    assert form["workflow"]["result"] == [5]
    assert [step["output"] for step in form["steps"]] == ["receipt-1", [5]]
    kinds = [event["kind"] for event in form["events"]]
    assert kinds == ["created", "claimed", "step", "step", "finished"]


def test_show_adds_the_traceback_of_the_last_error_when_asked() -> None:
    printed("start", "w", "break", "--input", f'"{json.dumps(EVIL)[1:-1]}"')
    run_until("w", status="aborted")
    assert "Traceback" not in printed("show", "w")
    text = printed("show", "w", "--traceback")
    assert "raise ValueError(text)" in text
    assert SAFE in text
    assert "\x1b" not in text


@pytest.mark.parametrize("words", [["list"], ["list", "--json"], ["show", EVIL], ["tail", EVIL]])
def test_a_hostile_id_or_error_sends_nothing_to_the_terminal(words: list[str]) -> None:
    quoted = json.dumps(EVIL)
    started = printed("start", EVIL, "break", "--input", quoted)
    run_until(EVIL, status="aborted")
    result = call(*words, code=1 if words[0] == "tail" else 0)
    for text in (started, result.stdout):
        assert text.replace("\n", "").isprintable()
        assert SAFE in text or quoted[1:-1] in text


def test_a_hostile_word_in_an_error_sends_nothing_to_the_terminal() -> None:
    for words in (["show", EVIL], ["list", "--status", EVIL], [EVIL], ["list", "--after", EVIL]):
        result = call(*words, code=1 if words[0] == "show" else 2)
        assert result.stderr.removesuffix("\n").isprintable()


def test_tail_prints_each_event_once_and_exits_by_how_the_workflow_ended() -> None:
    printed("start", "good", "fulfil")
    printed("start", "bad", "break", "--input", '"no"')
    run_until("good", status="finished")
    run_until("bad", status="aborted")
    lines = printed("tail", "good").splitlines()
    assert sum("step 'charge'" in line for line in lines) == 1
    assert any("published 'progress': 'charged'" in line for line in lines)
    assert lines[-1].endswith("  finished")
    events = [json.loads(line) for line in printed("tail", "bad", "--json", code=1).splitlines()]
    assert [event["kind"] for event in events] == ["created", "claimed", "aborted"]
    assert events[-1]["record"]["message"] == "no"


def test_tail_spends_a_tenth_of_its_time_on_looks_that_take_long() -> None:
    assert pause_after(0.01, least=0.5) == 0.5
    assert pause_after(0.4, least=0.5) == 4


def test_tail_refuses_a_pause_that_is_none() -> None:
    assert "--pause" in error_of("tail", "w", "--pause", "0", code=2)
    assert "--pause" in error_of("tail", "w", "--pause", "nan", code=2)
