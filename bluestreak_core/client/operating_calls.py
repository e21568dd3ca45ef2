"""The calls of a client about the whole: who is alive, and whether the workers keep up."""

from __future__ import annotations

from bluestreak_core.client.operating import Operating
from bluestreak_core.model import WorkerRecord


class OperatingCalls:
    """Looks at workers; a part of `Client`."""

    _operating: Operating

    async def workers(self) -> list[WorkerRecord]:
        """The live workers, by name, each as it last reported.

        A worker reports when it starts, when it begins to drain, and every third of its lease; one
        that runs nothing, every `poll_interval` if that is longer. It is left out once it has
        stopped, or has not reported for a lease longer than that. Raises `Unsupported` if the store
        does not keep track of workers.
        """
        return await self._operating.workers()
