"""Worker processes, and the messages between them and a benchmark.

A child runs the `worker` of a benchmark's module, an async generator. Whenever the parent asks, it
goes on to its next `yield`; what it yields is the answer, as a line of JSON. It ends when the
parent closes its input or is gone.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

Worker = Callable[..., AsyncGenerator[object, None]]

ROOT = Path(__file__).parents[1]
_LONGEST_LINE = 256 * 1024 * 1024
_PATIENCE = 300  # seconds
_FAREWELL = 30  # seconds


class Child:
    """A process that answers."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def answer(self) -> Any:
        """Let the worker go on, and return what it yields next."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        async with asyncio.timeout(_PATIENCE):
            line = await self._process.stdout.readline()
        if not line:
            raise ChildProcessError("the worker process has ended; see its error above")
        return json.loads(line)


@asynccontextmanager
async def started(
    module: str, options: Mapping[str, object], root: Path = ROOT
) -> AsyncIterator[Child]:
    """A process that runs `benchmarks.<module>.worker(**options)`, of the tree in a folder."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.child", module, json.dumps(options)),
        stdin=PIPE,
        stdout=PIPE,
        cwd=root,
        limit=_LONGEST_LINE,
    )
    try:
        yield Child(process)
    finally:
        await _end(process)


async def _end(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(_FAREWELL):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _serve(worker: Worker, options: Mapping[str, Any]) -> None:
    questions = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(questions), sys.stdin
    )
    async with aclosing(worker(**options)) as answers:
        while await questions.readline():
            print(json.dumps(await anext(answers)), flush=True)


if __name__ == "__main__":
    _worker: Worker = importlib.import_module(f"benchmarks.{sys.argv[1]}").worker
    asyncio.run(_serve(_worker, json.loads(sys.argv[2])))
