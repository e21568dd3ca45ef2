"""A web application that starts, shows, cancels and runs workflows.

export MONGODB_URL=mongodb://localhost:27017
uvicorn --app-dir docs/examples fastapi_app:app
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import order_fulfilment
from fastapi import (
    APIRouter,
    Depends,
    FastAPI,
    HTTPException,
    Request,
    Response,
)
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from bluestreak_core import (
    Bluestreak,
    Status,
    Store,
    StoreUnavailable,
    WorkerHealth,
    WorkerState,
    Workflow,
)
from bluestreak_mongo import MongoStore

logger = logging.getLogger(__name__)


OrderId = Annotated[str, Field(pattern=r"^[\w-]{1,100}$")]


class Order(BaseModel):
    order_id: OrderId
    customer_id: str
    items: list[str]
    cents: Annotated[int, Field(gt=0, lt=1_000_000_00)]


class Progress(BaseModel):
    order_id: str
    status: Status
    result: Any
    error: str | None


async def bluestreak_of(request: Request) -> Bluestreak:
    bluestreak: Bluestreak = request.app.state.bluestreak
    return bluestreak


Workflows = Annotated[Bluestreak, Depends(bluestreak_of)]
router = APIRouter()


@router.post("/orders", status_code=202)
async def place_order(
    order: Order, response: Response, workflows: Workflows
) -> Progress:
    """202: a new order. 200: the same again. 409: another order has the id."""
    is_new = await workflows.start(
        order.order_id, "order-fulfilment", order.model_dump()
    )
    workflow = await existing(order.order_id, workflows)
    if workflow.input != order.model_dump():
        raise HTTPException(
            409, f"order {order.order_id!r} exists, and is a different one"
        )
    if not is_new:
        response.status_code = 200
    return progress(workflow)


@router.get("/orders/{order_id}")
async def show_order(order_id: OrderId, workflows: Workflows) -> Progress:
    return progress(await existing(order_id, workflows))


@router.delete("/orders/{order_id}")
async def cancel_order(order_id: OrderId, workflows: Workflows) -> Progress:
    """The worker undoes what it has done. 409 for an order that has ended."""
    await existing(order_id, workflows)
    if not await workflows.cancel(order_id, "by the customer"):
        raise HTTPException(409, f"order {order_id!r} has ended")
    return progress(await existing(order_id, workflows))


@router.get("/health")
async def show_health(response: Response, workflows: Workflows) -> WorkerHealth:
    """503 once the worker has ended, so that the platform restarts it."""
    health = workflows.health()
    if health.state is WorkerState.STOPPED:
        response.status_code = 503
    return health


async def existing(order_id: str, workflows: Bluestreak) -> Workflow:
    workflow = await workflows.find_workflow(order_id)
    if workflow is None:
        raise HTTPException(404, f"no order {order_id!r}")
    return workflow


def progress(workflow: Workflow) -> Progress:
    return Progress(
        order_id=workflow.workflow_id,
        status=workflow.status,
        result=workflow.result,
        error=workflow.error.message if workflow.error else None,
    )


async def ask_again(_: Request, error: Exception) -> JSONResponse:
    """The order may or may not be stored; it is safe to place it again."""
    return JSONResponse(
        {"detail": str(error)}, status_code=503, headers={"Retry-After": "5"}
    )


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Run a worker beside the application; its error fails the shutdown."""
    bluestreak: Bluestreak = app.state.bluestreak
    async with bluestreak:
        worker = asyncio.create_task(bluestreak.poll())
        worker.add_done_callback(report_end)
        try:
            yield
        finally:
            bluestreak.stop()
            await worker


def report_end(worker: asyncio.Task[None]) -> None:
    if not worker.cancelled() and (error := worker.exception()) is not None:
        logger.critical(
            "the worker has ended; orders are accepted, not run", exc_info=error
        )


def create_app(store: Store) -> FastAPI:
    app = FastAPI(
        lifespan=lifespan, exception_handlers={StoreUnavailable: ask_again}
    )
    app.state.bluestreak = Bluestreak(store, max_failures=5)
    order_fulfilment.register(app.state.bluestreak, order_fulfilment.Services())
    app.include_router(router)
    return app


app = create_app(
    MongoStore(
        os.environ.get("MONGODB_URL", "mongodb://localhost:27017"),
        database="example_orders",
    )
)
