"""The power to keep the values that workflows publish."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from bluestreak_core.model import (
    Claim,
    Published,
)
from bluestreak_core.store.values import ValueRules


@runtime_checkable
class SupportsPublishing(Protocol):
    """A store that keeps the values that workflows publish, as `published` of the workflow."""

    def value_rules(self) -> ValueRules:
        """The rules by which this store stores values. It need not be open."""
        ...

    async def publish(self, claim: Claim, published: Sequence[Published]) -> None:
        """Replace what the workflow has published, as `machine.publish` does. Atomic.

        The values are such as the rules return. A repeat changes nothing. A stale caller gets
        `ClaimLost`. Raise `ValueTooLarge` if the values do not fit beside the input.
        """
        ...
