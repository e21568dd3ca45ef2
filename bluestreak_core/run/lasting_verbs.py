"""The verbs of a context for workflows that last."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from bluestreak_core.run.publish import publish
from bluestreak_core.run.verbs import Verbs


class LastingVerbs(Verbs):
    """Shows how far a workflow is; a part of `Context`."""

    def publish(self, name: str, value: Any, /) -> Coroutine[Any, Any, None]:
        """Show a value under a name to all who ask by `published` or `watch`.

        The latest value of each name is kept with the workflow, also after its end. This returns at
        once: the value is written at most 0.1 s later, unless the worker dies first. Of several
        values in that time the last one is written. All that a run has published is written before
        the run ends, however it ends.

        A later run of the handler publishes nothing that an earlier one has published: it counts
        the values of each name. So publish in the handler, and not in a step.

        The value is plain; no codec converts it. All names and values of a workflow together take
        at most 64 kB.

        Raises `InvalidId`, `UnstorableValue`, `ValueTooLarge`, `UsedInStep`, `UsedInTransaction`,
        and `Unsupported` if the store cannot publish.
        """
        return self._watch("publish", name, publish(self._frame, name, value))
