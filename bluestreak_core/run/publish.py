"""`ctx.publish`: a value that a workflow shows while it runs."""

from __future__ import annotations

import asyncio
from typing import Any

from bluestreak_core.errors import FinalMistakes, UsedInStep
from bluestreak_core.run.frame import Frame
from bluestreak_core.run.transaction_call import check_outside


async def publish(frame: Frame, name: str, value: Any) -> None:
    """Hand a value to the run's publisher.

    Not within a step: a replay would not call it, and count too few values.
    """
    await frame.check("publish", name)
    with FinalMistakes():
        name = frame.published_name(name)
        used = f"publish {name!r}"
        check_outside(frame.workflow_id, "publish", name)
        task = asyncio.current_task()
        if task is not None and (within := frame.operations.name_at(task)) is not None:
            raise UsedInStep(frame.workflow_id, used, within)
        frame.publisher.publish(name, value)
