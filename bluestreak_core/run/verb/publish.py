"""`ctx.publish`: a value that a workflow shows while it runs."""

from __future__ import annotations

from typing import Any

from bluestreak_core.errors import FinalMistakes
from bluestreak_core.run.frame import Frame


async def publish(frame: Frame, name: str, value: Any) -> None:
    """Hand a value to the run's publisher.

    Not within a step: a replay would not call it, and count too few values.
    """
    await frame.check("publish", name)
    with FinalMistakes():
        name = frame.published_name(name)
        frame.check_outside("publish", name)
        frame.publisher.publish(name, value)
