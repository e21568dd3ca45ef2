"""The fields of a form that a page of the console has sent."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from bluestreak_console.access import Visitor
from bluestreak_console.security import TOKEN
from bluestreak_console.site import Site

MAX_BYTES = 4 * 1024 * 1024


async def fields(site: Site, request: Request, visitor: Visitor) -> Mapping[str, str] | Response:
    """The fields, or the page that refuses them: to who may only look, and without a token."""
    if not visitor.may_act:
        message = "you may look at this console, and change nothing"
        return site.refusal(request, visitor, "Not allowed", message, 403)
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BYTES:
            message = f"a form may have {MAX_BYTES:,} bytes"
            return site.refusal(request, visitor, "Too large", message, 413)
    found = dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
    if not site.tokens.are_valid(request, visitor.name, found.get(TOKEN, "")):
        message = "the page was out of date, or the form was not the console's: load it again"
        return site.refusal(request, visitor, "Nothing was done", message, 403)
    return found
