"""An import of a large file, whose progress a web page shows.

    export MONGODB_URL=mongodb://localhost:27017
    uvicorn --app-dir docs/examples import_progress:app

    curl -X POST 'localhost:8000/imports/customers?chunks=20'
    curl -N localhost:8000/imports/customers/events

The second line follows the import until it ends. Stop the server meanwhile,
and start it again: the import continues with the next chunk, and its progress
never goes backwards.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse

from bluestreak_core import Bluestreak, Context, Store, WorkflowNotFound
from bluestreak_mongo import MongoStore

# The workflow ----------------------------------------------------------------


class Services:
    """A stand-in for a file of customers, and the database they go into."""

    def __init__(self, latency: float = 0) -> None:
        self._latency = latency

    async def import_chunk(self, name: str, chunk: int) -> int:
        print(f"import chunk {chunk} of {name}")
        await asyncio.sleep(self._latency)
        return 1000


def register(bluestreak: Bluestreak, services: Services) -> None:
    @bluestreak.handler("import")
    async def import_file(ctx: Context, chunks: int) -> int:
        name, rows = ctx.workflow_id, 0
        for chunk in range(chunks):
            rows += await ctx.step(
                f"chunk-{chunk}", services.import_chunk, name, chunk
            )
            percent = 100 * (chunk + 1) // chunks
            await ctx.publish("progress", {"percent": percent, "rows": rows})
        return rows


# The web application ---------------------------------------------------------


async def engine_of(request: Request) -> Bluestreak:
    bluestreak: Bluestreak = request.app.state.bluestreak
    return bluestreak


Workflows = Annotated[Bluestreak, Depends(engine_of)]
router = APIRouter()


@router.post("/imports/{name}", status_code=202)
async def begin(name: str, chunks: int, workflows: Workflows) -> None:
    await workflows.start(name, "import", chunks)


@router.get("/imports/{name}")
async def show(name: str, workflows: Workflows) -> dict[str, int]:
    """How far it is, for a page that polls."""
    try:
        nothing = {"percent": 0, "rows": 0}
        progress: dict[str, int] = await workflows.published(
            name, "progress", nothing
        )
    except WorkflowNotFound as error:
        raise HTTPException(404, "no such import") from error
    return progress


@router.get("/imports/{name}/events")
async def follow(name: str, workflows: Workflows) -> StreamingResponse:
    """Each change, for the `EventSource` of a browser."""

    async def events() -> AsyncIterator[str]:
        async for change in workflows.watch(name):
            yield f"event: {change.name}\ndata: {json.dumps(change.value)}\n\n"

    await show(name, workflows)  # a 404 cannot be sent in the stream
    return StreamingResponse(events(), media_type="text/event-stream")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with app.state.bluestreak as bluestreak, asyncio.TaskGroup() as tasks:
        tasks.create_task(bluestreak.poll())
        yield
        bluestreak.stop()


def create_app(store: Store, services: Services) -> FastAPI:
    app = FastAPI(lifespan=lifespan)
    app.state.bluestreak = Bluestreak(store, max_failures=5)
    register(app.state.bluestreak, services)
    app.include_router(router)
    return app


app = create_app(
    MongoStore(
        os.environ.get("MONGODB_URL", "mongodb://localhost:27017"),
        database="example_import",
    ),
    Services(latency=0.5),
)
