"""The verb of a context about compensation."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVarTuple

from bluestreak_core.argument import Duration
from bluestreak_core.retry import Retry
from bluestreak_core.run.context.verbs import Verbs
from bluestreak_core.run.verb.compensate import compensate

Ts = TypeVarTuple("Ts")


class CompensationVerbs(Verbs):
    """Registers compensations; a part of `Context`."""

    def compensate(
        self,
        step_id: str,
        fn: Callable[[*Ts], Any],
        /,
        *args: *Ts,
        retry: Retry | None = None,
        timeout: Duration | None = None,
    ) -> Coroutine[Any, Any, None]:
        """Register `fn(*args)` to be called if the workflow is aborted or cancelled.

        Then the registered functions are called in reverse order, before the workflow ends:
        wherever the workflow was, in any worker, and across crashes. Each is recorded as a step,
        with a policy as in `step`; `retry` is `Retry()` by default, which is three attempts. One
        that is given up is recorded and logged as an error, and the others are called. If the
        workflow finishes, nothing is called.

        Functions cannot be stored. So the worker that compensates replays the handler over its
        records, up to the first call without one, and calls what was registered on the way.
        Register a compensation before the step that it undoes if its arguments are known by then,
        else right after it. The first one of a workflow makes one store call.

        Raises `InvalidId`, `InvalidArgument`, `InvalidDuration`, `DuplicateStep`, `UsedInStep`,
        `UsedInTransaction`, and `Unsupported` if the store cannot compensate.
        """
        work = compensate(self._frame, step_id, fn, args, retry, timeout)
        return self._watch("compensate", step_id, work)
