"""`ctx.restart`: a workflow that starts over without its records."""

from __future__ import annotations

from typing import Any, NoReturn

from bluestreak_core.errors import FinalMistakes, InvalidValue
from bluestreak_core.run.exit import Restart
from bluestreak_core.run.frame import Frame
from bluestreak_core.run.verb.message_wait import aborting


async def restart(frame: Frame, input: Any) -> NoReturn:
    """End the run; the next one gets this input."""
    await frame.check("restart", frame.workflow_id)
    with FinalMistakes():
        frame.check_outside("restart", frame.workflow_id)
        frame.journal.check_restart()
    try:
        stored = _stored(frame, input)
    except InvalidValue as refusal:
        aborting(frame, refusal)
        raise
    frame.exit.decide(Restart(stored))
    await frame.exit.leave()


def _stored(frame: Frame, input: Any) -> Any:
    conversion = frame.journal.conversion
    if conversion is None:
        return input
    return conversion.stored_input(frame.workflow_id, frame.handler, input)
