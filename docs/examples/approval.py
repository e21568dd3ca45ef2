"""Expenses that somebody has to approve, with two buttons on a web page.

export MONGODB_URL=mongodb://localhost:27017
uvicorn --app-dir docs/examples approval:app
python docs/examples/approval.py

The second line serves the pages, the third one runs a worker, which prints the
mails with the links.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, Field

from bluestreak_core import (
    Bluestreak,
    CallbackExpired,
    CallbackTimeout,
    Client,
    Context,
    InvalidToken,
    Retry,
    Store,
    StoreUnavailable,
    WorkflowEnded,
)
from bluestreak_mongo import MongoStore
from bluestreak_pydantic import PydanticCodec

Id = Annotated[str, Field(pattern=r"^[\w-]{1,100}$")]


class Expense(BaseModel):
    expense_id: Id
    employee: str
    approver: str
    cents: Annotated[int, Field(gt=0)]


class Decision(StrEnum):
    APPROVE = "approve"
    REJECT = "reject"


# The workflow ----------------------------------------------------------------


@dataclass(frozen=True)
class Mail:
    to: str
    text: str


class Services:
    """A stand-in for a mail server and a payroll."""

    def __init__(self, site: str = "http://localhost:8000") -> None:
        self.site = site
        self.outbox: list[Mail] = []

    async def send(self, to: str, text: str) -> None:
        self.outbox.append(Mail(to, text))
        print(f"mail to {to}: {text}")

    async def pay(self, employee: str, cents: int) -> None:
        print(f"pay {cents} cents to {employee}")


def register(bluestreak: Bluestreak, services: Services) -> None:
    @bluestreak.handler("refund-expense")
    async def refund_expense(ctx: Context, expense: Expense) -> str:
        async def ask(token: str) -> None:
            link = f"{services.site}/decisions/{token}"
            euros = f"{expense.cents / 100:.2f} EUR"
            await services.send(
                expense.approver, f"{expense.employee} spent {euros}: {link}"
            )

        try:
            decision = await ctx.callback(
                "decision",
                ask,
                type=Decision,
                timeout=timedelta(days=14),
                retry=Retry(max_attempts=5, initial=60),
            )
        except CallbackTimeout:
            decision = Decision.REJECT
        if decision is Decision.APPROVE:
            await ctx.step("pay", services.pay, expense.employee, expense.cents)
        text = f"{expense.expense_id}: {decision.value}"
        await ctx.step("tell", services.send, expense.employee, text)
        return decision.value


# The web application ---------------------------------------------------------


async def client_of(request: Request) -> Client:
    client: Client = request.app.state.client
    return client


Workflows = Annotated[Client, Depends(client_of)]
router = APIRouter()

ASK = """\
<form method="post">
  <button formaction="/decisions/{token}/approve">Approve</button>
  <button formaction="/decisions/{token}/reject">Reject</button>
</form>
"""


def page(body: str, status: int = 200) -> HTMLResponse:
    """A page that is not kept, and whose address goes nowhere else."""
    private = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    text = f"<!doctype html>\n<title>Decision</title>\n{body}"
    return HTMLResponse(text, status_code=status, headers=private)


@router.post("/expenses", status_code=202)
async def hand_in(expense: Expense, workflows: Workflows) -> None:
    await workflows.start(
        expense.expense_id, "refund-expense", expense.model_dump()
    )


@router.get("/decisions/{token}")
async def show_buttons(
    token: Annotated[str, Field(pattern=r"^[\w.-]+$")],
) -> HTMLResponse:
    """Opening the link of a mail decides nothing: mail scanners do it, too."""
    return page(ASK.format(token=token))


@router.post("/decisions/{token}/{decision}")
async def decide(
    token: str, decision: Decision, workflows: Workflows
) -> HTMLResponse:
    try:
        answer = await workflows.resolve(token, decision, type=Decision)
    except InvalidToken:
        return page("This link is not valid.", 404)
    except (CallbackExpired, WorkflowEnded):
        return page("It is too late for a decision.", 410)
    if answer.is_first or answer.payload == decision:
        return page(f"Thank you. Your decision: {decision.value}")
    return page(f"It was decided before: {answer.payload}", 409)


async def ask_again(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse(
        {"detail": str(error)}, status_code=503, headers={"Retry-After": "5"}
    )


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with app.state.client:
        yield


def create_app(store: Store) -> FastAPI:
    app = FastAPI(
        lifespan=lifespan, exception_handlers={StoreUnavailable: ask_again}
    )
    app.state.client = Client(store, codec=PydanticCodec())
    app.include_router(router)
    return app


def create_store() -> MongoStore:
    url = os.environ.get("MONGODB_URL", "mongodb://localhost:27017")
    return MongoStore(url, database="example_approvals")


app = create_app(create_store())


# The worker ------------------------------------------------------------------


async def main() -> None:
    bluestreak = Bluestreak(
        create_store(), codec=PydanticCodec(), max_failures=5
    )
    register(bluestreak, Services())
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, bluestreak.stop)
    async with bluestreak:
        await bluestreak.poll()


if __name__ == "__main__":
    asyncio.run(main())
