"""Environments whose workers and clients are observed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from bluestreak_core.testing import Environment
from bluestreak_memory import MemoryStore
from tests.otel.arrange import Telemetry


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.fixture
def environment(telemetry: Telemetry) -> Iterator[Callable[..., Environment]]:
    """Makes environments on a store in memory."""
    with ExitStack() as stack:

        def make(*, store_calls: bool = False, **settings: Any) -> Environment:
            env = Environment(
                store=lambda clock: telemetry.store(
                    MemoryStore(clock=clock), store_calls=store_calls
                ),
                hooks=[telemetry.hook],
                **settings,
            )
            return stack.enter_context(env)

        yield make
