"""The verb of a context about callbacks."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any, TypeVar, overload

from bluestreak_core.argument import Duration
from bluestreak_core.retry import Retry
from bluestreak_core.run.context.verbs import Verbs
from bluestreak_core.run.verb.callback import Terms, callback

P = TypeVar("P")


class CallbackVerbs(Verbs):
    """Waits for answers from outside; a part of `Context`."""

    @overload
    def callback(
        self,
        step_id: str,
        hand_over: Callable[[str], Any],
        /,
        *,
        type: builtins.type[P],
        timeout: Duration | None = None,
        deadline: datetime | None = None,
        heartbeat: Duration | None = None,
        retry: Retry | None = None,
    ) -> Coroutine[Any, Any, P]: ...

    @overload
    def callback(
        self,
        step_id: str,
        hand_over: Callable[[str], Any],
        /,
        *,
        type: None = None,
        timeout: Duration | None = None,
        deadline: datetime | None = None,
        heartbeat: Duration | None = None,
        retry: Retry | None = None,
    ) -> Coroutine[Any, Any, Any]: ...

    def callback(
        self,
        step_id: str,
        hand_over: Callable[[str], Any],
        /,
        *,
        type: builtins.type[Any] | None = None,
        timeout: Duration | None = None,
        deadline: datetime | None = None,
        heartbeat: Duration | None = None,
        retry: Retry | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Hand over a token, and wait until somebody answers it by `resolve`; return the payload.

        `hand_over(token)` is called as a step: it sends the token to a person, or to a system that
        calls back. The token is a secret of 256 bits, safe within a URL; the store has only a hash
        of it. If the process dies before the call is recorded, `hand_over` is called again with
        another token, and all tokens stay valid. The first answer wins, and is recorded.

        While it waits, the workflow leaves memory after `park_after`.

        - `timeout` or `deadline`, as in `receive`. If no answer has come by then, `CallbackTimeout`
          is raised here, in this run and in each later one.
        - `heartbeat`, in seconds or as a `timedelta`: the longest time without a `beat` for the
          token. If it is over, `CallbackSilent` is raised in the same way.
        - `retry`: the policy of the step that calls `hand_over`. `StepFailed` is raised when it is
          given up.
        - `type`: a codec converts the payload to it. A payload that does not fit raises
          `InvalidValue`, which aborts the workflow.

        An answer with an error raises `CallbackFailed`, in each later run, too. A timeout, a
        silence or an error that the handler does not catch aborts the workflow.

        Raises `InvalidId`, `InvalidArgument`, `InvalidDuration`, `DuplicateStep`, `UsedInStep`,
        `UsedInTransaction`, and `Unsupported` if the store has no mailboxes.
        """
        terms = Terms(timeout, deadline, heartbeat, retry, type)
        return self._watch("callback", step_id, callback(self._frame, step_id, hand_over, terms))
