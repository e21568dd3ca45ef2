"""Calls of a verb with wrong arguments, each of which aborts a workflow."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from bluestreak_core import Bluestreak, Context, InvalidArgument
from tests.engine.arrange import aborted_by

Call = Callable[[Context], Awaitable[Any]]
Mistake = tuple[Call, type[InvalidArgument]]


class Mistakes:
    """Mistakes by their numbers, each with the error that refuses it."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        self._mistakes = mistakes
        self._refusals: list[InvalidArgument] = []

    async def handle(self, ctx: Context, input: int) -> None:
        """Make the mistake with the number that is the input."""
        try:
            await self._mistakes[input][0](ctx)
        except InvalidArgument as refusal:
            self._refusals.append(refusal)
            raise

    async def check_refused(self, bluestreak: Bluestreak, workflow_id: str, number: int) -> None:
        """Check that a mistake has aborted its workflow in the first run, and left no record."""
        error = self._mistakes[number][1]
        await aborted_by(bluestreak, error, workflow_id)
        assert type(self._refusals[-1]) is error
        assert len(self._refusals) == number + 1
        assert len(str(self._refusals[-1])) < 400
        life = await bluestreak.describe(workflow_id)
        assert (life.steps, life.naps, life.attempts) == ((), (), ())
