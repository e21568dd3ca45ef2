"""The verbs of a context for workflows that last."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, NoReturn

from bluestreak_core.run.context.verbs import Verbs
from bluestreak_core.run.verb.publish import publish
from bluestreak_core.run.verb.restart import restart


class LastingVerbs(Verbs):
    """Shows how far a workflow is, and starts it over; a part of `Context`."""

    def publish(self, name: str, value: Any, /) -> Coroutine[Any, Any, None]:
        """Show a value under a name; `published` and `watch` read it.

        The latest value of each name is kept with the workflow, even after its end. This returns at
        once: the value is written at most 0.1 s later, unless the worker dies first. Of several
        values in that time the last one is written. Everything that a run has published is written
        before the run ends, however it ends.

        A later run of the handler publishes nothing that an earlier one has published: it counts
        the values of each name. So publish in the handler, and not in a step.

        The value is plain; no codec converts it. All names and values of a workflow together take
        at most 64 kB.

        Raises `InvalidId`, `UnstorableValue`, `ValueTooLarge`, `UsedInStep`, `UsedInTransaction`,
        and `Unsupported` if the store cannot publish.
        """
        return self._watch("publish", name, publish(self._frame, name, value))

    def restart(self, input: Any, /) -> Coroutine[Any, Any, NoReturn]:
        """Start this workflow over with another input, and without its records. Never returns.

        The run ends here: the handler is cancelled, with all of its branches. Its workflow is due
        again at once, with the same id, the new input, and none of its steps, naps, attempts and
        failures. A worker calls the handler with the new input.

        For workflows without an end, such as a subscription: each run reads all records, so a
        handler that loops for years would become slow. Put into the input all that the next
        generation has to know.

        Messages that were not received stay in the mailbox; published values stay as well. The
        `deadline` counts anew. `ctx.info.generation` counts the restarts, and each generation has
        idempotency keys of its own.

        Raises `InvalidValue`, `UsedInStep`, `UsedInTransaction`, and `Unsupported` if the store
        cannot restart workflows. An input that cannot be stored aborts the workflow.
        """
        return self._watch("restart", self._frame.workflow_id, restart(self._frame, input))
