"""The page about operating: its commands, its manifests, and the query of its scaler."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from pymongo import MongoClient

from bluestreak_cli.main import app
from bluestreak_core import Bluestreak, Context
from bluestreak_mongo import MongoStore

PAGE = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
FILE = re.compile(r'^```\w+ title="([\w.]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^```shell\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILES: dict[str, str] = dict(FILE.findall(PAGE))


def command_lines() -> Iterator[str]:
    """Each use of the command: in shell blocks, in the unit, in the image, and in the text."""
    for block in SHELL.findall(PAGE):
        yield from block.splitlines()
    unit = FILES["bluestreak.service"]
    (started,) = re.findall(r"^ExecStart=\S+/(bluestreak .*)$", unit, re.MULTILINE)
    yield started
    (words,) = re.findall(r"^CMD (\[.*\])$", FILES["Dockerfile"], re.MULTILINE)
    yield shlex.join(json.loads(words))
    flat = " ".join(FILE.sub("", SHELL.sub("", PAGE)).split())
    yield from re.findall(r"`(bluestreak (?:send|resume|doctor)[^`]*)`", flat)


def test_each_command_line_is_understood() -> None:
    root = typer.main.get_command(app)
    lines = [*command_lines()]
    assert len(lines) == 12
    for line in lines:
        program, name, *words = shlex.split(line)
        assert program == "bluestreak"
        command = root.commands[name]  # type: ignore[attr-defined]
        command.make_context(name, words, resilient_parsing=False)


def test_the_manifests_name_the_port_of_the_image() -> None:
    (container,) = yaml.safe_load(FILES["worker.yaml"])["spec"]["template"]["spec"]["containers"]
    (port,) = container["ports"]
    assert f'"--port", "{port["containerPort"]}"' in FILES["Dockerfile"]
    for probe in ("livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] == port["name"]


@pytest.mark.server
@pytest.mark.asyncio
async def test_the_scaler_counts_what_is_due_and_not_claimed(
    mongodb_url: str, mongodb: MongoClient[dict[str, Any]], empty_database: str
) -> None:
    trigger = yaml.safe_load(FILES["scaler.yaml"])["spec"]["triggers"][0]["metadata"]
    query = json.loads(trigger["query"])
    store = MongoStore(mongodb_url, database=empty_database)

    async def handle(ctx: Context, value: None) -> None: ...

    async with Bluestreak(store) as bluestreak:
        bluestreak.register_handler("handle", handle)
        for number in range(3):
            await bluestreak.start(f"due-{number}", "handle")
        await bluestreak.start("later", "handle", delay=timedelta(hours=1))
        await bluestreak.start("paused", "handle")
        await bluestreak.pause("paused")
        workflows = mongodb[empty_database][trigger["collection"]]
        assert workflows.count_documents(query) == 3
