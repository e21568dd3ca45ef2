"""Calling the command, and running what it has started."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from bluestreak_cli.main import app
from bluestreak_core import Client
from tests.cli import shop

ROOT = Path(__file__).parents[2]
SHOP = "tests.cli.shop:bluestreak"
COMMAND = [sys.executable, "-m", "bluestreak_cli"]


def call(*words: str, input: str | None = None, code: int = 0) -> Result:
    """Carry out a command line on the shop."""
    result = CliRunner().invoke(app, words, input=input, env={"BLUESTREAK_APP": SHOP})
    assert result.exit_code == code, (result.output, result.exc_info)
    return result


def printed(*words: str, code: int = 0) -> str:
    """The standard output of a command line."""
    return call(*words, code=code).stdout


def document(*words: str, code: int = 0) -> Any:
    """The JSON document that a command line prints."""
    return json.loads(printed(*words, "--json", code=code))


def documents(*words: str) -> list[Any]:
    """The JSON documents, one a line, that a command line prints."""
    return [json.loads(line) for line in printed(*words, "--json").splitlines()]


def error_of(*words: str, code: int, input: str | None = None) -> str:
    """The one line on the standard error of a command line that is not carried out."""
    result = call(*words, code=code, input=input)
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def run_until(*workflow_ids: str, status: str) -> None:
    """Let a worker of the shop run until workflows are in a state, or wait for a message."""

    async def run() -> None:
        async with shop.bluestreak, asyncio.TaskGroup() as tasks:
            tasks.create_task(shop.bluestreak.poll())
            for workflow_id in workflow_ids:
                while not await _is(shop.bluestreak, workflow_id, status):  # noqa: ASYNC110
                    await asyncio.sleep(0)
            shop.bluestreak.stop()

    asyncio.run(run())


async def _is(client: Client, workflow_id: str, status: str) -> bool:
    workflow = await client.find_workflow(workflow_id)
    if workflow is None:
        return False
    return bool(workflow.waiting_for) if status == "waiting" else workflow.status == status


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """For a process of its own."""
    fixed = {"PYTHONPATH": str(ROOT), "TERM": "xterm", "PYTHONUNBUFFERED": ""}
    return {**os.environ, **fixed, **more}
