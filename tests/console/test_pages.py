"""What the pages show."""

from __future__ import annotations

import pytest

from bluestreak_console.events import PAGE
from bluestreak_console.workflows import PAGE as LIST_PAGE
from bluestreak_core import Start
from tests.console.arrange import HOSTILE, OPERATOR, SECRET, STRANGER, Console, text_of

pytestmark = pytest.mark.asyncio


async def test_the_overview_shows_what_fails_and_who_works(site: Console) -> None:
    await site.ended("w-1", "break", "no such order")
    await site.registered()
    shown = text_of(await site.shown())
    assert "w-1 break aborted 1 ValueError: no such order" in shown
    assert "of 100 slots, polling" in shown


async def test_the_overview_loads_the_counts(site: Console) -> None:
    await site.ended("w-1", "echo", 1)
    await site.ended("w-2", "break", "no")
    assert 'hx-get="/console/counts"' in await site.shown()
    shown = text_of(await site.shown("counts"))
    assert "2 all" in shown
    assert "1 finished" in shown
    assert "1 aborted" in shown
    assert "break 1 echo 1" in shown


async def test_the_list_has_the_filters_of_its_address(site: Console) -> None:
    await site.ended("a-1", "echo", 1)
    await site.ended("b-1", "break", "no")
    await site.waiting("b-2")
    everything = text_of(await site.shown("workflows"))
    assert all(name in everything for name in ("a-1", "b-1", "b-2"))
    for query, expected in (
        ({"status": "finished"}, {"a-1"}),
        ({"status": ["finished", "aborted"]}, {"a-1", "b-1"}),
        ({"handler": "break"}, {"b-1"}),
        ({"prefix": "b-"}, {"b-1", "b-2"}),
        ({"waiting_for": "paid"}, {"b-2"}),
        ({"since": "1h"}, {"a-1", "b-1", "b-2"}),
        ({"until": "1h"}, set()),
    ):
        page = await site.shown("workflows", **query)
        assert {name for name in ("a-1", "b-1", "b-2") if f"id={name}" in page} == expected, query


async def test_a_filter_that_is_none_is_refused_by_name(site: Console) -> None:
    answer = await site.get("workflows", since="yesterday")
    assert answer.status_code == 400
    assert "since" in text_of(answer.text)
    assert "'yesterday'" in text_of(answer.text)


async def test_a_long_list_is_loaded_page_by_page(site: Console) -> None:
    count = LIST_PAGE + 10
    await site.bluestreak.start_many(
        [Start(f"w-{number:03}", "later", delay=3600) for number in range(count)]
    )
    page, seen = await site.shown("workflows"), set[str]()
    for _ in range(2):
        seen |= {f"w-{number:03}" for number in range(count) if f"w-{number:03}" in page}
        if "after=" not in page:
            break
        address = page.split('hx-get="/console/', 1)[1].split('"', 1)[0].replace("&amp;", "&")
        answer = await site.browser.get(f"/console/{address}", headers={"HX-Request": "true"})
        page = answer.text
        assert "<html" not in page
    assert len(seen) == count


async def test_an_id_that_is_looked_for_leads_to_its_workflow(site: Console) -> None:
    await site.ended("order/17", "echo", 1)
    found = await site.get("workflows", id="order/17")
    assert (found.status_code, found.headers["location"]) == (
        303,
        "/console/workflow?id=order%2F17",
    )
    close = await site.get("workflows", id="order")
    assert close.headers["location"] == "/console/workflows?prefix=order"


async def test_a_workflow_shows_its_values_and_its_course(site: Console) -> None:
    await site.ended("w", "echo", {"city": "Łódź", "note": "x" * 200})
    page = await site.shown("workflow", id="w")
    shown = text_of(page)
    assert "w finished" in shown
    assert '"city": "Łódź"' in shown
    for event in ("created", "claimed", "step", "finished"):
        assert f">{event}</span>" in page
    assert page.count("<rect") >= 4


async def test_a_workflow_shows_why_it_failed(site: Console) -> None:
    await site.ended("w", "break", "no such order")
    shown = text_of(await site.shown("workflow", id="w"))
    assert "ValueError: no such order" in shown
    assert "Traceback (most recent call last)" in shown


async def test_a_workflow_that_waits_says_for_what(site: Console) -> None:
    await site.waiting("w")
    assert "Waits for paid" in text_of(await site.shown("workflow", id="w"))


async def test_a_long_history_is_loaded_part_by_part(site: Console) -> None:
    await site.ended("w", "many", PAGE)
    first = await site.shown("workflow", id="w")
    assert first.count('<td class="name">') == PAGE
    assert f'hx-get="/console/events?id=w&amp;first={PAGE}"' in first
    rest = await site.shown("events", id="w", first=PAGE)
    assert rest.count('<td class="name">') == 3  # created and claimed came before, and finished
    assert "hx-get" not in rest


async def test_what_nobody_has_is_not_found(site: Console) -> None:
    for page in ("workflow", "events"):
        answer = await site.get(page, id="nobody")
        assert answer.status_code == 404
        assert "No such workflow" in answer.text
    assert (await site.get("nowhere")).status_code == 404


async def test_workers_are_shown_with_what_they_can_run(site: Console) -> None:
    await site.registered()
    shown = text_of(await site.shown("workers"))
    assert "polling" in shown
    assert "Handlers break, echo, many, wait" in shown


async def test_nobody_sees_values_who_may_not(site: Console) -> None:
    await site.ended("fine", "echo", SECRET)
    await site.ended("broken", "break", SECRET)
    await site.waiting("gone")
    await site.bluestreak.cancel("gone", SECRET)
    pages = [
        ("", {}),
        ("workflows", {}),
        ("workers", {}),
        *(("workflow", {"id": name}) for name in ("fine", "broken", "gone")),
        *(("events", {"id": name}) for name in ("fine", "broken", "gone")),
    ]
    found = [SECRET in await site.shown(page, **query) for page, query in pages]
    assert any(found)
    site.visitor[0] = STRANGER
    for page, query in pages:
        assert SECRET not in await site.shown(page, **query), page


async def test_hostile_texts_are_only_texts(site: Console) -> None:
    await site.ended(HOSTILE, "echo", {HOSTILE: HOSTILE})
    await site.ended(f"{HOSTILE}2", "break", HOSTILE)
    for page in (
        await site.shown(),
        await site.shown("workflows"),
        await site.shown("workflow", id=HOSTILE),
        await site.shown("workflow", id=f"{HOSTILE}2"),
        await site.shown("workflows", prefix=HOSTILE, handler=HOSTILE),
        await site.shown("bulk", action="cancel", prefix=HOSTILE),
        (await site.get("workflow", id=f"{HOSTILE}3")).text,
    ):
        assert "<script>alert" not in page
        assert "alert(" in page
    shown = await site.shown("workflow", id=HOSTILE)
    assert "\\u202e" in shown
    assert "\u202e" not in shown
    assert "\x1b" not in shown


async def test_a_huge_value_is_cut(site: Console) -> None:
    await site.ended("w", "echo", "x" * 3_000_000)
    page = await site.shown("workflow", id="w")
    assert len(page) < 200_000
    assert "xxx…" in page
    assert site.visitor == [OPERATOR]
