"""Who looks at the console, and what they may do."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Somebody who may look at the console.

    - `name`: who it is, for the log of actions.
    - `may_see_values`: inputs, results, outputs, published values, reasons, and the messages and
      tracebacks of errors. Without it, the console shows ids, states and times.
    - `may_act`: cancel, pause, resume, retry, fork and send.
    """

    name: str
    may_see_values: bool = False
    may_act: bool = False


Decision = Visitor | Response | None
Authorise = Callable[[Request], Decision | Awaitable[Decision]]
"""Says for each request who it comes from.

None refuses it with 403. A response, such as a redirect to your login, is sent instead of the page.
"""


async def decide(authorise: Authorise, request: Request) -> Decision:
    """The decision of a function that may be async."""
    decision = authorise(request)
    return await decision if inspect.isawaitable(decision) else decision
