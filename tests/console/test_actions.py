"""What one can do, and who can."""

from __future__ import annotations

import logging

import pytest

from bluestreak_console.form import MAX_BYTES
from bluestreak_core import Start, Status
from tests.console.arrange import READER, Console, text_of

pytestmark = pytest.mark.asyncio


async def test_a_workflow_is_paused_resumed_cancelled_and_retried(site: Console) -> None:
    await site.waiting("w")
    for action, status in (
        ("pause", Status.PAUSED),
        ("resume", Status.IDLE),
        ("cancel", Status.CANCELLED),
    ):
        answer = await site.act(action, "w", reason="it was late")
        assert answer.status_code == 303
        assert answer.headers["location"] == f"/console/workflow?id=w&did={action}"
        assert await site.status("w") is status
    workflow = await site.bluestreak.find_workflow("w")
    assert workflow is not None
    assert workflow.reason == "it was late"
    await site.act("retry", "w")
    assert not (await site.status("w")).ended


async def test_a_run_that_hangs_is_interrupted(site: Console) -> None:
    await site.waiting("w")
    await site.act("interrupt", "w")
    workflow = await site.bluestreak.find_workflow("w")
    assert workflow is not None
    assert workflow.controls == 2
    assert workflow.status is not Status.PAUSED


async def test_a_message_is_sent_as_json(site: Console) -> None:
    await site.waiting("w")
    await site.act("send", "w", message="paid", payload='{"cents": 100}', message_id="m")
    assert await site.bluestreak.wait("w") == {"cents": 100}


async def test_a_payload_that_is_no_json_is_refused(site: Console) -> None:
    await site.waiting("w")
    answer = await site.act("send", "w", message="paid", payload="{cents: 100}")
    assert answer.status_code == 400
    assert "expected JSON" in text_of(answer.text)


async def test_a_workflow_is_forked_before_a_step(site: Console) -> None:
    await site.ended("w", "echo", 1)
    answer = await site.act("fork", "w", new_id="f", before="step")
    assert answer.headers["location"] == "/console/workflow?id=f&did=fork"
    assert await site.bluestreak.wait("f") == 1
    again = await site.act("fork", "w", new_id="f")
    assert again.status_code == 400
    assert "an id that no workflow has" in text_of(again.text)


async def test_what_the_state_forbids_is_refused(site: Console) -> None:
    await site.ended("w", "echo", 1)
    answer = await site.act("pause", "w")
    assert answer.status_code == 409
    assert "finished" in text_of(answer.text)
    form = {"action": "retry", "token": await site.token("workflow", id="w")}
    assert (await site.post("act", form, id="nobody")).status_code == 404
    assert (await site.act("explode", "w")).status_code == 400


async def test_actions_are_offered_by_the_state(site: Console) -> None:
    await site.ended("w", "echo", 1)
    await site.ended("b", "break", "no")
    finished, aborted = await site.shown("workflow", id="w"), await site.shown("workflow", id="b")
    assert 'value="retry"' not in finished
    assert 'value="fork"' in finished
    assert 'value="retry"' in aborted
    assert 'value="pause"' not in aborted


async def test_each_action_is_logged_with_who_did_it(
    site: Console, caplog: pytest.LogCaptureFixture
) -> None:
    await site.waiting("w")
    with caplog.at_level(logging.INFO, "bluestreak_console"):
        await site.act("pause", "w")
    (record,) = caplog.records
    assert record.getMessage() == "ada: pause of workflow 'w'"
    assert vars(record)["visitor"] == "ada"


async def test_a_reader_is_offered_nothing_and_can_do_nothing(site: Console) -> None:
    await site.waiting("w")
    token = await site.token()
    site.visitor[0] = READER
    page = await site.shown("workflow", id="w")
    assert "<form method" not in page
    for form in ("act", "bulk"):
        answer = await site.post(form, {"action": "cancel", "token": token}, id="w")
        assert answer.status_code == 403
    assert await site.status("w") is Status.IDLE


async def test_a_form_needs_its_token_and_its_origin(site: Console) -> None:
    await site.waiting("w")
    token = await site.token()
    bare = {"action": "cancel"}
    form = {**bare, "token": token}
    refused = [
        await site.post("act", bare, id="w"),
        await site.post("act", {**bare, "token": "0" * 64}, id="w"),
        await site.post("act", {**bare, "token": "ä"}, id="w"),
        await site.post("act", form, {"Origin": "https://evil.example"}, id="w"),
        await site.post("act", form, {"Origin": "null"}, id="w"),
        await site.post("act", form, {"Sec-Fetch-Site": "cross-site"}, id="w"),
        await site.post("act", form, {"Sec-Fetch-Site": "same-site"}, id="w"),
        await site.post("bulk", bare),
    ]
    cookies = dict(site.browser.cookies)
    site.browser.cookies.clear()
    refused.append(await site.post("act", form, id="w"))
    assert [answer.status_code for answer in refused] == [403] * len(refused)
    assert await site.status("w") is Status.IDLE
    site.browser.cookies.update(cookies)
    honest = {"Origin": "http://shop.example", "Sec-Fetch-Site": "same-origin"}
    assert (await site.post("act", form, honest, id="w")).status_code == 303


async def test_an_address_alone_does_nothing(site: Console) -> None:
    await site.waiting("w")
    assert (await site.get("act", action="cancel", id="w")).status_code == 405
    assert await site.status("w") is Status.IDLE


async def test_a_form_has_a_limit(site: Console) -> None:
    await site.ended("w", "echo", 1)
    answer = await site.act("fork", "w", new_id="x" * MAX_BYTES)
    assert answer.status_code == 413


async def test_many_are_changed_after_a_question(site: Console) -> None:
    await site.bluestreak.start_many(
        [Start(f"w-{number}", "later", delay=3600) for number in range(30)]
    )
    await site.bluestreak.start("other", "later", delay=3600)
    await site.ended("w-ended", "echo", 1)
    question = text_of(await site.shown("bulk", action="cancel", prefix="w-"))
    assert "30 workflows match" in question
    assert "prefix: w-" in question
    form = {"action": "cancel", "token": await site.token()}
    answer = await site.post("bulk", form, prefix="w-")
    assert "30 done." in text_of(answer.text)
    assert (await site.bluestreak.count())["cancelled"] == 30
    assert await site.status("other") is Status.IDLE
    assert "No workflow matches" in text_of(await site.shown("bulk", action="cancel", prefix="w-"))


async def test_more_than_one_form_can_bear_are_changed_by_several(
    site: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bluestreak_console.bulk.AT_ONCE", 20)
    await site.bluestreak.start_many(
        [Start(f"w-{number}", "later", delay=3600) for number in range(30)]
    )
    question = text_of(await site.shown("bulk", action="pause"))
    assert "More than 20 workflows match" in question
    form = {"action": "pause", "token": await site.token()}
    first = text_of((await site.post("bulk", form)).text)
    assert "20 done." in first
    assert "10 workflows match" in first
    assert "10 done." in text_of((await site.post("bulk", form)).text)
    assert (await site.bluestreak.count())["paused"] == 30


async def test_a_bulk_action_is_one_of_few(site: Console) -> None:
    answer = await site.get("bulk", action="prune")
    assert answer.status_code == 400
    assert "cancel, pause, resume, retry" in text_of(answer.text)
