"""Commands that give workflows something to do: start, send, resolve, fork."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from bluestreak_cli.command import Session, add
from bluestreak_cli.exit_code import ExitCode
from bluestreak_cli.failure import CommandError
from bluestreak_cli.instant import read_instant, read_span
from bluestreak_cli.json_form import STDIN, read_value, value_form
from bluestreak_cli.option import WorkflowId


async def start(
    session: Session,
    *,
    workflow_id: WorkflowId,
    handler: Annotated[str, typer.Argument(metavar="HANDLER", help="The id of its handler.")],
    input: Annotated[
        str | None, typer.Option("--input", metavar="JSON", help="Its input; - reads stdin.")
    ] = None,
    delay: Annotated[
        str | None, typer.Option("--delay", metavar="SPAN", help="Start later: 90s, 15m, 12h, 30d.")
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="Start then: 2026-11-30T10:00Z.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse an id that exists with another input.")
    ] = False,
    foreign: Annotated[
        bool, typer.Option("--foreign", help="Another application has the handler.")
    ] = False,
) -> None:
    """Start a workflow. If its id exists, nothing changes.

    A handler that the application does not have would end its workers, unless they skip unknown
    handlers.
    """
    value = read_value(input, "--input")
    span = None if delay is None else read_span(delay, "--delay")
    instant = None if at is None else read_instant(at, "--at")
    async with session.target.open() as client:
        if client.handlers and handler not in client.handlers and not foreign:
            known = ", ".join(map(repr, client.handlers))
            raise CommandError(
                f"this application has no handler {handler!r}, only {known}",
                "say --foreign if another application has it",
                ExitCode.REFUSED,
            )
        is_new = await client.start(
            workflow_id, handler, value, delay=span, at=instant, strict=strict
        )
    what = "is started" if is_new else "exists already, nothing has changed"
    session.output.answer(
        f"workflow {workflow_id!r} {what}", {"workflow_id": workflow_id, "started": is_new}
    )


async def send(
    session: Session,
    *,
    workflow_id: WorkflowId,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the message.")],
    payload: Annotated[
        str | None, typer.Option("--payload", metavar="JSON", help="What it says; - reads stdin.")
    ] = None,
    message_id: Annotated[
        str | None,
        typer.Option("--message-id", metavar="ID", help="A repeat with this id sends nothing."),
    ] = None,
) -> None:
    """Send a message to a workflow."""
    value = read_value(payload, "--payload")
    async with session.target.open() as client:
        is_new = await client.send(workflow_id, name, value, message_id=message_id)
    what = "is sent" if is_new else "was sent before"
    session.output.answer(
        f"message {name!r} to workflow {workflow_id!r} {what}",
        {"workflow_id": workflow_id, "name": name, "sent": is_new},
    )


async def resolve(
    session: Session,
    *,
    token: Annotated[
        str, typer.Argument(metavar="TOKEN", help="The token of the callback; - reads stdin.")
    ],
    payload: Annotated[
        str | None, typer.Option("--payload", metavar="JSON", help="The answer.")
    ] = None,
    error: Annotated[
        str | None, typer.Option("--error", metavar="TEXT", help="Why there is no answer.")
    ] = None,
) -> ExitCode:
    """Answer a callback.

    The first answer wins. Exits with 1 if it is not this one.
    """
    if payload is not None and error is not None:
        raise CommandError("--payload and --error exclude each other", "give one of them")
    if token == payload == STDIN:
        raise CommandError("only one of TOKEN and --payload can be -", "give the payload itself")
    secret = sys.stdin.readline().strip() if token == STDIN else token
    value = read_value(payload, "--payload")
    async with session.target.open() as client:
        answer = await client.resolve(secret, value, error=error)
    what = f"error {answer.error!r}" if answer.error is not None else f"answer {answer.payload!r}"
    whose = "is answered with" if answer.is_first else "was answered before, with"
    session.output.answer(
        f"the callback {whose} {what}",
        {
            "is_first": answer.is_first,
            "payload": value_form(answer.payload),
            "error": answer.error,
        },
    )
    return ExitCode.DONE if answer.is_first else ExitCode.REFUSED


async def fork(
    session: Session,
    *,
    workflow_id: WorkflowId,
    new_id: Annotated[str, typer.Argument(metavar="NEW_ID", help="The id of the new workflow.")],
    before: Annotated[
        str | None,
        typer.Option("--before", metavar="STEP", help="Take over what was recorded before it."),
    ] = None,
) -> None:
    """Start a workflow with the input and the records of another one."""
    async with session.target.open() as client:
        is_new = await client.fork(workflow_id, new_id, before)
    what = f"is a fork of {workflow_id!r}" if is_new else "exists already, nothing has changed"
    session.output.answer(
        f"workflow {new_id!r} {what}",
        {"workflow_id": new_id, "forked_from": workflow_id, "forked": is_new},
    )


def register(app: typer.Typer) -> None:
    """Add these commands."""
    add(app, start, example="bluestreak start order-17 fulfil --input '{\"cents\": 2495}'")
    add(app, send, example="bluestreak send order-17 paid --payload '{\"cents\": 2495}'")
    add(app, resolve, example="bluestreak resolve TOKEN --payload true")
    add(app, fork, example="bluestreak fork order-17 order-17-again --before ship")
