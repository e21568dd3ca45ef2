"""The Store protocol: what the engine asks of a database. The docstrings are the contract.

`bluestreak_core.testing.StoreContract` is its executable form. In all of it:

- **Atomic** means that two callers, in any two processes, see the call as done or not done.
- **Repeated**: a caller that got `StoreUnavailable` does not know whether its call was carried out,
  and makes it again with the same arguments. Every call accepts that, but `control`, `create` and
  `fork`, which answer as they do to anybody who comes late.
- **Stale**: a call under a claim that is no longer in force. Those that move a workflow raise
  `ClaimLost` and write nothing.
- **Deleted**: a claim belongs to the workflow that it was made on. Once that has been deleted, what
  is recorded under the claim is refused with `ClaimLost`, or is never handed out: the next workflow
  of that id begins with nothing. `machine.is_of` compares the two by `created_at`.
- A store never reads a clock to decide something; the engine passes `now`. Instants are aware, UTC,
  whole milliseconds.
- A value is handed out as a fresh copy, equal to what every later read gives, and never is an
  object that a caller passed in. Where a value cannot be stored, `UnstorableValue` or
  `ValueTooLarge` says so before anything is written; also where the database refuses its record.
- A store that cannot be reached raises `StoreUnavailable`, and so does one that fails in a way that
  nobody has foreseen. `StoreRefused`, which ends workers, is for what only somebody's change can
  mend. A driver's exceptions never leave it, but as the `__cause__`.
- A stored document that cannot be read raises `CorruptDocument` where it is asked for by its id,
  and so does one that cannot be changed. A `claim` leaves it alone. Where `history` raises it, the
  engine asks for each claim apart, and aborts the workflow that it comes from.
- The engine may cancel any call. A cancelled call has been carried out or not, never in part, and
  nothing of it goes on after the cancellation is through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from bluestreak_core.clock import Clock
from bluestreak_core.machine import Transition
from bluestreak_core.model import (
    Attempt,
    Claim,
    ClaimRequest,
    FailedStep,
    Failure,
    History,
    Nap,
    NewWorkflow,
    Standing,
    Step,
    Workflow,
)


class Store(Protocol):
    """Where workflows, steps and naps are kept. One store serves many engines and event loops of
    many processes; an instance belongs to one event loop.
    """

    @property
    def clock(self) -> Clock:
        """The time that all users of this store share. It may be wrong before `init`."""
        ...

    async def init(self) -> None:
        """Connect, and create what is missing. Repeated calls change nothing."""
        ...

    async def close(self) -> None:
        """Let go of what this instance opened. Repeated calls do nothing; `init` opens it again."""
        ...

    # Starting and looking ----------------------------------------------------------------------

    async def create(self, new: NewWorkflow) -> bool:
        """Insert a workflow: idle, without failures or claims, due at `new.start_at` or, where that
        is None, at `new.created_at`.

        False, and nothing is changed, when the id exists. Atomic: of several callers one gets True.
        A repeat after an unknown outcome may get False for a workflow that its own first call made.
        """
        ...

    async def create_many(self, new: Sequence[NewWorkflow]) -> list[bool]:
        """`create` for each of many, in a few writes; what `create` would say, in their order.

        Where two have one id, the first of them counts. Not atomic as a whole: after an error, some
        may have been created. A value that cannot be stored is refused before anything is written.
        """
        ...

    async def find_workflow(self, workflow_id: str) -> Workflow | None:
        """The workflow, as of the last acknowledged write, or None."""
        ...

    async def find_standing(self, workflow_id: str) -> Standing | None:
        """`find_workflow(workflow_id).standing`, without reading the input; or None.

        Called for every `wait`, over and over, and at the same time for thousands of them: a store
        that pays for each read answers concurrent calls by one.
        """
        ...

    async def find_step(self, workflow_id: str, step_id: str) -> Step | None:
        """The recorded step, or None."""
        ...

    async def find_nap(self, workflow_id: str, nap_id: str) -> Nap | None:
        """The recorded nap, or None."""
        ...

    # Claiming ----------------------------------------------------------------------------------

    async def claim(self, request: ClaimRequest) -> Sequence[Claim]:
        """Claim up to `request.limit` due workflows, the longest due first.

        Eligible are `idle`, `failed` and `running` workflows with `timeout_at <= now`, of the
        requested handlers, or of any where that is None. `machine.claim` has the record of a
        claimed workflow: it becomes `running` with a token that was never used for it before,
        `timeout_at = now + lease`, one more in `claims`, one more in `crashes`
        if it was `running`, `worker` set, `started_at = now` unless it has an earlier one, and one
        entry more in the claim log, of which the newest 20 are kept.

        Atomic for each workflow: no two callers get the same one. Fewer than `limit`, even none,
        may be returned while others are due. Claims whose caller got no answer run out by
        themselves.
        """
        ...

    async def history(self, claims: Sequence[Claim]) -> Mapping[str, History]:
        """What the claimed workflows have recorded, by workflow id; one entry for each claim.

        Whatever was acknowledged before the claim was made is in it. Costs a fixed number of reads,
        however many claims there are. It is not asked for first runs, see `machine.is_first_run`.
        """
        ...

    async def renew(self, claims: Sequence[Claim], now: datetime, lease: timedelta) -> list[Claim]:
        """Set `timeout_at = now + lease` where a claim is in force; return the claims that are not.

        A lease that has run out is renewed too, as long as nobody has taken over. None is shortened
        by a renewal that was sent before another one and arrives after it. Nothing else is touched.
        Atomic for each workflow.
        """
        ...

    # Recording ---------------------------------------------------------------------------------

    async def save_step(self, claim: Claim, step_id: str, output: Any, now: datetime) -> Any:
        """Record a step's output once, and return the recorded one.

        The first writer wins, whoever holds the claim: a repeat, a racing attempt and a stale
        caller all get the output that is stored, and change nothing. A first record sets `crashes`
        to 0 if the claim is in force. The record is written before the count is touched.

        What was recorded for a workflow of this id that has been deleted is not in the way. A
        caller whose own workflow has been deleted gets `ClaimLost`, or its own output.
        """
        ...

    async def save_nap(
        self, claim: Claim, nap_id: str, wake_up_at: datetime, now: datetime
    ) -> datetime:
        """Record when a nap ends once, and return the recorded instant. Like `save_step`."""
        ...

    async def save_attempt(self, claim: Claim, attempt: Attempt) -> Attempt:
        """Record a failed attempt of a step once, and return the recorded one. Like `save_step`.

        Step id, round and number tell it from others. It never is taken for a nap or for a step.
        """
        ...

    async def fail_step(self, claim: Claim, failed: FailedStep) -> None:
        """Add a step that has been given up to the workflow's `failed_steps`; set `crashes` to 0.

        It needs the claim in force, unlike the other records: so the step has no other outcome for
        anybody who may go on. Atomic. A repeat changes nothing. A stale caller gets `ClaimLost`.
        """
        ...

    # Ending a claim: each needs the claim in force, and is atomic ---------------------------------

    async def park(self, claim: Claim, wake_up_at: datetime) -> None:
        """Give the claim back until a nap ends: `idle`, with `timeout_at = wake_up_at`.

        A repeat changes nothing. A stale caller gets `ClaimLost`.
        """
        ...

    async def release(self, claim: Claim, now: datetime) -> None:
        """Give the claim back unfinished: `idle`, with `timeout_at = now`.

        A repeat changes nothing. A stale caller gets `ClaimLost`.
        """
        ...

    async def finish(self, claim: Claim, result: Any, now: datetime) -> None:
        """End well: `finished`, with `result`, and `finished_at` and `timeout_at = now`.

        Input and result share one record, so the result has the room of `MAX_VALUE_BYTES` that the
        input leaves.
        A repeat changes nothing. A stale caller gets `ClaimLost`.
        """
        ...

    async def fail(self, claim: Claim, failure: Failure, now: datetime) -> None:
        """Record an error and count it in `failures`.

        With `failure.retry_at`: `failed`, with `timeout_at` at that instant. Without: `aborted`,
        with `finished_at` and `timeout_at = now`. A repeat changes nothing. A stale caller gets
        `ClaimLost`.
        """
        ...

    # From outside ------------------------------------------------------------------------------

    async def control(
        self, workflow_id: str, event: Transition, now: datetime, reason: str | None = None
    ) -> None:
        """Cancel, pause, resume or retry a workflow, as `machine.control` does. Atomic.

        Whoever has a claim has it no longer. Raises `WorkflowNotFound`, and `TransitionRefused`
        where the state machine has no such arrow; so a repeat is refused.
        """
        ...

    # Hints ---------------------------------------------------------------------------------------

    async def wait_for_work(self, timeout: timedelta) -> None:
        """Return when there may be work to claim, at the latest after `timeout` on the clock.

        A hint: it may return early for nothing, and it may miss what other processes do.
        """
        ...

    async def wait_for_end(self, workflow_id: str, since: datetime, timeout: timedelta) -> bool:
        """Return True when a workflow may have ended since that instant; False after `timeout` on
        the clock, or sooner, where the store hears too little to be relied upon for so long.

        A hint, like `wait_for_work`. The engine notes the time, looks with `find_standing`, and
        unless the workflow has ended, calls this with `since` the time that it has noted; when this
        returns, it begins again, with a later `since` each time. So an end that comes after the
        look is not missed, and a hint that comes too early costs one look.
        """
        ...

    async def wait_for_control(self, worker: str, since: datetime, timeout: timedelta) -> bool:
        """Return True when somebody may have taken a claim of this worker from outside, by
        `control`, since that instant; False after `timeout` on the clock.

        A hint, like `wait_for_work`. A worker that has missed it finds out when it renews.
        """
        ...
