"""A console over a store, and a browser without a screen."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from html import unescape
from typing import Any

from httpx import ASGITransport, AsyncClient, Response
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount

from bluestreak_console import Visitor, app
from bluestreak_core import Bluestreak, Context, Status, Store, WorkflowAborted

OPERATOR = Visitor(name="ada", may_see_values=True, may_act=True)
READER = Visitor(name="eve", may_see_values=True)
STRANGER = Visitor(name="bob")

HOSTILE = "<script>alert('1')</script>\u202e\x1b[31m\"&?/#"
SECRET = "the secret 4711"

_TOKEN = re.compile(r'name="token" value="([0-9a-f]+)"')


def register(bluestreak: Bluestreak) -> Bluestreak:
    """Handlers that end in each way."""

    @bluestreak.handler("echo")
    async def echo(ctx: Context, value: Any) -> Any:
        return await ctx.step("step", lambda: value)

    @bluestreak.handler("wait")
    async def wait(ctx: Context, value: Any) -> Any:
        return await ctx.receive("mail", "paid")

    @bluestreak.handler("break")
    async def break_(ctx: Context, text: str) -> None:
        raise ValueError(text)

    @bluestreak.handler("many")
    async def many(ctx: Context, count: int) -> None:
        for number in range(count):
            await ctx.step(f"step-{number:03}", lambda: None)

    return bluestreak


@dataclass
class Console:
    """A console that is mounted, and who looks at it next."""

    bluestreak: Bluestreak
    browser: AsyncClient
    visitor: list[Visitor | None] = field(default_factory=lambda: [OPERATOR])

    async def get(self, page: str = "", **query: Any) -> Response:
        return await self.browser.get(f"/console/{page}", params=query)

    async def shown(self, page: str = "", **query: Any) -> str:
        """The text of a page, as a browser understands it."""
        answer = await self.get(page, **query)
        assert answer.status_code == 200, answer.text
        return answer.text

    async def token(self, page: str = "bulk", **query: Any) -> str:
        """The token of a form of a page; by default, of the question before a bulk action."""
        found = _TOKEN.search(await self.shown(page, **(query or {"action": "cancel"})))
        assert found is not None
        return found[1]

    async def post(
        self,
        page: str,
        form: Mapping[str, str],
        headers: Mapping[str, str] | None = None,
        **query: Any,
    ) -> Response:
        return await self.browser.post(
            f"/console/{page}", data=dict(form), headers=headers, params=query
        )

    async def act(self, action: str, workflow_id: str, **fields: str) -> Response:
        form = {"action": action, "token": await self.token("workflow", id=workflow_id), **fields}
        return await self.post("act", form, id=workflow_id)

    async def ended(self, workflow_id: str, handler_id: str, value: Any = None) -> None:
        """Start a workflow, and wait until it has ended."""
        await self.bluestreak.start(workflow_id, handler_id, value)
        with suppress(WorkflowAborted):
            await self.bluestreak.wait(workflow_id)

    async def waiting(self, workflow_id: str) -> None:
        """Start a workflow that waits for a message, and wait until it is parked."""
        await self.bluestreak.start(workflow_id, "wait")
        while not await self._is_parked(workflow_id):  # noqa: ASYNC110 - nobody else knows
            await asyncio.sleep(0)

    async def registered(self) -> None:
        """Wait until the worker has reported."""
        while not await self.bluestreak.workers():  # noqa: ASYNC110 - nobody else knows
            await asyncio.sleep(0)

    async def status(self, workflow_id: str) -> Status:
        workflow = await self.bluestreak.find_workflow(workflow_id)
        assert workflow is not None
        return workflow.status

    async def _is_parked(self, workflow_id: str) -> bool:
        workflow = await self.bluestreak.find_workflow(workflow_id)
        return workflow is not None and bool(workflow.waiting_for)


@asynccontextmanager
async def console(store: Store) -> AsyncIterator[Console]:
    """A console below `/console`."""
    visitor: list[Visitor | None] = [OPERATOR]

    async def authorise(request: Request) -> Visitor | None:
        return visitor[0]

    async with register(Bluestreak(store, max_failures=0, park_after=0)) as bluestreak:
        site = Starlette(routes=[Mount("/console", app(bluestreak, authorise=authorise))])
        transport = ASGITransport(site)
        browser = AsyncClient(transport=transport, base_url="http://shop.example")
        async with browser, asyncio.TaskGroup() as tasks:
            tasks.create_task(bluestreak.poll())
            yield Console(bluestreak, browser, visitor)
            bluestreak.stop()


def text_of(page: str) -> str:
    """What somebody reads."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())
