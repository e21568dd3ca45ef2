"""Environments and sweeps with a codec."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import partial

import pytest
from pydantic import BaseModel, ConfigDict

from bluestreak_core import Context, HandlerNotRegistered, InvalidValue, Status
from bluestreak_core.testing import Environment, crash_everywhere
from bluestreak_pydantic import PydanticCodec


@dataclass(frozen=True)
class Order:
    item: str
    price: Decimal


@dataclass(frozen=True)
class Receipt:
    order: Order
    on: date


async def charge(order: Order) -> Receipt:
    return Receipt(order, date(2030, 1, 31))


def confirm(receipt: Receipt, *, copies: int) -> Receipt:
    return receipt if copies else Receipt(receipt.order, date(2031, 1, 1))


async def buy(ctx: Context, input: Order) -> Receipt:
    receipt = await ctx.step("charge", charge, input)
    assert receipt == Receipt(input, date(2030, 1, 31))
    await ctx.sleep("month", 30 * 86_400)
    return await ctx.step("confirm", partial(confirm, copies=1), receipt)


BOOK = Order("book", Decimal("12.50"))


def test_an_environment_converts_the_input_and_the_result() -> None:
    with Environment(codec=PydanticCodec()) as env:
        outcome = env.run(buy, BOOK)
    assert outcome.result == Receipt(BOOK, date(2030, 1, 31))
    stored = {"order": {"item": "book", "price": "12.50"}, "on": "2030-01-31"}
    assert outcome.steps == {"charge": stored, "confirm": stored}
    assert outcome.workflow.result == stored


def test_a_workflow_is_started_by_its_function() -> None:
    with Environment(codec=PydanticCodec()) as env:
        with pytest.raises(HandlerNotRegistered, match="'buy' is not a registered handler"):
            env.start("o", buy, BOOK)
        env.register_handler("shop", buy)
        with pytest.raises(InvalidValue, match=r"input of workflow 'o' at \['item'\]"):
            env.start("o", buy, {"item": 1, "price": 2})
        assert env.start("o", buy, BOOK)
        assert env.wait("o").workflow.handler_id == "shop"


def test_a_new_version_of_a_handler_can_be_deployed() -> None:
    async def newer(ctx: Context, input: Receipt) -> None: ...

    with Environment(codec=PydanticCodec()) as env:
        env.register_handler("buy", buy)
        env.start("o", "buy", BOOK)
        env.crash()
        env.register_handler("buy", newer)
        assert env.wait("o").status is Status.ABORTED


def test_a_crash_anywhere_changes_nothing_that_is_typed() -> None:
    sweep = crash_everywhere(buy, BOOK, codec=PydanticCodec())
    assert sweep.outcome.result == Receipt(BOOK, date(2030, 1, 31))
    assert len(sweep.crashes) > 6


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    on: date


def test_a_sweep_gives_strict_models_back_as_they_were() -> None:
    def look() -> Strict:
        return Strict(on=date(2030, 1, 31))

    async def handler(ctx: Context, input: None) -> Strict:
        return await ctx.step("look", look)

    sweep = crash_everywhere(handler, codec=PydanticCodec())
    assert sweep.outcome.result == Strict(on=date(2030, 1, 31))
