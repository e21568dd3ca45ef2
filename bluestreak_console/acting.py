"""What one does to a workflow from its page."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from bluestreak_console.access import Visitor
from bluestreak_console.form import fields
from bluestreak_console.site import Link, Site
from bluestreak_core import Client, InvalidArgument

logger = logging.getLogger(__name__)


async def act(site: Site, request: Request, visitor: Visitor) -> Response:
    """Do what a form says, and show the workflow again."""
    form = await fields(site, request, visitor)
    if isinstance(form, Response):
        return form
    workflow_id, action = request.query_params.get("id", ""), form.get("action", "")
    shown = await _carry_out(site.client, action, workflow_id, form)
    logger.info(
        "%s: %s of workflow %r",
        *(visitor.name, action, workflow_id),
        extra={"visitor": visitor.name, "action": action, "workflow_id": workflow_id},
    )
    link = Link.of(request)
    return RedirectResponse(link("workflow", id=shown, did=action), 303)


async def _carry_out(client: Client, action: str, workflow_id: str, form: Mapping[str, str]) -> str:
    """Do something to a workflow; return the id of the workflow to show."""
    match action:
        case "cancel":
            await client.cancel(workflow_id, form.get("reason") or None)
        case "pause":
            await client.pause(workflow_id)
        case "resume":
            await client.resume(workflow_id)
        case "retry":
            await client.retry(workflow_id)
        case "interrupt":
            await client.pause(workflow_id)
            await client.resume(workflow_id)
        case "fork":
            new_id = form.get("new_id", "")
            if not await client.fork(workflow_id, new_id, form.get("before") or None):
                raise InvalidArgument("new_id", new_id, "expected an id that no workflow has")
            return new_id
        case "send":
            payload = _payload(form.get("payload", ""))
            message_id = form.get("message_id") or None
            await client.send(workflow_id, form.get("message", ""), payload, message_id=message_id)
        case _:
            raise InvalidArgument("action", action, "expected one that a page of this console has")
    return workflow_id


def _payload(text: str) -> object:
    if not text.strip():
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument("payload", text, f"expected JSON: {error}") from None
