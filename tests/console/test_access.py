"""Who gets in, and what their browser is told."""

from __future__ import annotations

import pytest
from httpx import ASGITransport, AsyncClient
from starlette.requests import Request
from starlette.responses import RedirectResponse

from bluestreak_console import Visitor, app, local_app
from bluestreak_core import Bluestreak
from bluestreak_memory import MemoryStore
from tests.console.arrange import Console

pytestmark = pytest.mark.asyncio

PAGES = ("", "counts", "workflows", "workflow?id=w", "events?id=w", "bulk?action=cancel", "workers")


async def test_nobody_gets_in_who_is_nobody(site: Console) -> None:
    site.visitor[0] = None
    for page in (*PAGES, "live"):
        assert (await site.browser.get(f"/console/{page}")).status_code == 403
    assert (await site.post("act", {"action": "cancel"}, id="w")).status_code == 403


async def test_a_login_may_come_first() -> None:
    def authorise(request: Request) -> RedirectResponse:
        return RedirectResponse("/login")

    async with Bluestreak(MemoryStore()) as bluestreak:
        transport = ASGITransport(app(bluestreak, authorise=authorise))
        async with AsyncClient(transport=transport, base_url="http://shop.example") as browser:
            assert (await browser.get("/workflows")).headers["location"] == "/login"


async def test_each_page_forbids_scripts_of_others_frames_and_caches(site: Console) -> None:
    await site.ended("w", "echo", 1)
    for page in (*PAGES, "nowhere", "static/console.css"):
        headers = (await site.browser.get(f"/console/{page}")).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"


async def test_no_page_has_what_the_policy_forbids(site: Console) -> None:
    await site.ended("w", "echo", 1)
    for page in PAGES:
        text = (await site.browser.get(f"/console/{page}")).text
        assert "<style" not in text
        assert " style=" not in text
        assert " onclick=" not in text
        assert text.count("<script") == text.count("<script src=")


async def test_the_cookie_stays_with_the_console(site: Console) -> None:
    cookie = (await site.get()).headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "path=/console" in cookie


async def test_a_token_is_for_one_visitor_and_one_process_unless_they_share_a_secret() -> None:
    def authorise(request: Request) -> Visitor:
        return Visitor(name=request.headers["x-user"], may_act=True)

    async with Bluestreak(MemoryStore()) as bluestreak:
        await bluestreak.start("w", "later", delay=3600)
        sites = [
            app(bluestreak, authorise=authorise, secret=secret)
            for secret in (None, "shared", "shared")
        ]
        browsers = [
            AsyncClient(transport=ASGITransport(site), base_url="http://shop.example")
            for site in sites
        ]
        page = await browsers[1].get("/workflow?id=w", headers={"x-user": "ada"})
        token = page.text.split('name="token" value="')[1].split('"')[0]
        form = {"action": "pause", "token": token}
        statuses = []
        for browser, user in ((browsers[0], "ada"), (browsers[1], "eve"), (browsers[2], "ada")):
            browser.cookies = browsers[1].cookies
            answer = await browser.post("/act?id=w", data=form, headers={"x-user": user})
            statuses.append(answer.status_code)
        for browser in browsers:
            await browser.aclose()
    assert statuses == [403, 403, 303]


async def test_a_local_console_needs_its_key_and_its_name() -> None:
    async with Bluestreak(MemoryStore()) as bluestreak:
        site = local_app(bluestreak, "the-key", user="ada", hosts=["box.example"])
        async with AsyncClient(
            transport=ASGITransport(site), base_url="http://127.0.0.1:8788"
        ) as browser:
            for key in ("", "?key=", "?key=wrong", "?key=ä"):
                assert (await browser.get(f"/{key}")).status_code == 403
            entered = await browser.get("/?key=the-key")
            assert (entered.status_code, entered.headers["location"]) == (303, "/")
            assert (await browser.get("/workflows")).status_code == 200
            for host, status in (
                ("evil.example", 400),
                ("box.example", 200),
                ("localhost:8788", 200),
            ):
                answer = await browser.get("/workflows", headers={"Host": host})
                assert answer.status_code == status, host


async def test_a_local_console_may_be_read_only() -> None:
    async with Bluestreak(MemoryStore()) as bluestreak:
        await bluestreak.start("w", "later", delay=3600)
        site = local_app(bluestreak, "the-key", user="ada", may_act=False)
        async with AsyncClient(
            transport=ASGITransport(site), base_url="http://localhost"
        ) as browser:
            await browser.get("/?key=the-key")
            page = (await browser.get("/workflow?id=w")).text
    assert "read-only" in page
    assert "<form method" not in page
