"""Answers have the types of their callbacks."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from bluestreak_core import Context, InvalidValue, Resolution
from bluestreak_pydantic import PydanticCodec
from tests.arrange import eventually
from tests.engine.arrange import Fleet, aborted_by, on_memory


@dataclass(frozen=True)
class Decision:
    by: str
    limit: Decimal


DECISION = Decision("ada", Decimal("1.10"))
STORED = {"by": "ada", "limit": "1.10"}


@pytest.mark.asyncio
@pytest.mark.parametrize("answer", [DECISION, STORED], ids=["an object", "what a web page sends"])
async def test_an_answer_has_its_type_in_each_replay(fleet: Fleet, answer: Any) -> None:
    tokens: list[str] = []
    seen: list[Decision] = []

    async def handle(ctx: Context, input: None) -> None:
        seen.append(await ctx.callback("approve", tokens.append, type=Decision))
        if len(seen) < 2:
            raise ValueError

    bluestreak = await fleet.handling(handle, codec=PydanticCodec(), wait_retry_interval=0)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await eventually(lambda: bool(tokens))
        expects = type(answer) if answer is DECISION else None
        resolution = await bluestreak.resolve(tokens[0], answer, type=expects)
        assert resolution == Resolution(is_first=True, payload=STORED)
        await bluestreak.wait("w")
    assert seen == [DECISION] * 2
    again = await bluestreak.resolve(tokens[0], DECISION, type=Decision)
    assert again == Resolution(is_first=False, payload=STORED)


@pytest.mark.asyncio
@on_memory
async def test_an_answer_of_another_type_is_refused_where_the_type_is_known(fleet: Fleet) -> None:
    tokens: list[str] = []

    async def handle(ctx: Context, input: None) -> Any:
        return await ctx.callback("approve", tokens.append, type=Decision)

    bluestreak = await fleet.handling(handle, codec=PydanticCodec())
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await eventually(lambda: bool(tokens))
        with pytest.raises(InvalidValue, match="payload of message 'callback/approve'"):
            await bluestreak.resolve(tokens[0], {"by": "ada"}, type=Decision)
        await bluestreak.resolve(tokens[0], {"by": "ada"})
        aborted = await aborted_by(bluestreak, InvalidValue)
    assert "stored payload of message 'callback/approve' to workflow 'w'" in aborted.error_message
    assert aborted.error_traceback.count("ValidationError: ") == 1


@pytest.mark.asyncio
@on_memory
async def test_what_a_hand_over_returns_has_its_type(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: None) -> Any:
        async def hand_over(token: str) -> Decision:
            await bluestreak.resolve(token, "yes")
            return DECISION

        return await ctx.callback("approve", hand_over)

    bluestreak = await fleet.handling(handle, codec=PydanticCodec())
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        assert await bluestreak.wait("w") == "yes"
    step = await bluestreak.find_step("w", "approve/hand-over/1")
    assert step is not None
    assert step.output == STORED
