"""The Store protocol: what the engine requires of a database. The docstrings are the contract.

`bluestreak_core.testing.StoreContract` is its executable form, and the page on writing a store
explains it. These rules hold for every call:

- **Atomic calls** take effect at one moment, as seen from any process.
- **Repeated calls**: a caller that got `StoreUnavailable` does not know whether its call took
  effect, and repeats it with the same arguments. Accept every repeat, without a second effect.
  Only `control`, `create` and `fork` answer a repeat as they answer any late caller.
- **Stale calls**: the caller's claim is no longer in force. Calls that move a workflow raise
  `ClaimLost` and write nothing.
- **Deleted workflows**: a claim belongs to the workflow that it was made on, not to a later one
  with the same id, nor to a later generation of the same one; `machine.is_of` compares the two by
  `created_at` and `generation`. Refuse a record under the claim of a deleted workflow with
  `ClaimLost`, or keep it where no call ever returns it.
- **Time**: never read a clock to decide something; the engine passes `now`. Instants are aware, in
  UTC, in whole milliseconds.
- **Values**: return a fresh copy, equal to what every later read returns, never the object that a
  caller passed in. Raise `UnstorableValue` or `ValueTooLarge` before anything is written, or when
  the database refuses the record because of the value.
- **Errors**: raise `StoreUnavailable` if the database cannot be reached, and for any error that you
  do not know. `StoreRefused` ends workers: raise it only for what somebody has to change. Chain the
  driver's exceptions as the `__cause__`; let none of them out.
- **Unreadable documents**: raise `CorruptDocument` when one is read or changed by its id. `claim`
  skips them. If `history` raises it, the engine reads the claims one by one, and aborts the
  workflow that the document belongs to.
- **Cancellation**: the engine may cancel any call. A cancelled call takes effect completely or not
  at all, and nothing of it goes on after `CancelledError` has been raised.
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
    """Where workflows, steps and naps are kept.

    Many engines in many processes share what is stored. An instance belongs to one event loop.
    """

    @property
    def clock(self) -> Clock:
        """The clock that all users of this store share. It may be wrong before `init`."""
        ...

    async def init(self) -> None:
        """Connect, and create whatever the database lacks. A repeated call changes nothing."""
        ...

    async def close(self) -> None:
        """Wait for calls under way, and release what this instance opened.

        A repeated call does nothing. `init` opens the instance again.
        """
        ...

    # Starting and reading ------------------------------------------------------------------------

    async def create(self, new: NewWorkflow) -> bool:
        """Insert the workflow that `machine.create` makes: idle, without failures or claims.

        Return False, and change nothing, if the id exists. Atomic: one of several callers gets
        True. A repeat may get False for the workflow that its own first call created.
        """
        ...

    async def create_many(self, new: Sequence[NewWorkflow]) -> list[bool]:
        """`create` for each workflow, in few writes; return the answers in the same order.

        If an id comes twice, only the first can be True. Refuse a value that cannot be stored
        before writing anything. Not atomic as a whole: an error may leave some of them created.
        """
        ...

    async def find_workflow(self, workflow_id: str) -> Workflow | None:
        """The workflow as of the last acknowledged write, or None."""
        ...

    async def find_standing(self, workflow_id: str) -> Standing | None:
        """`find_workflow(workflow_id).standing` without reading the input, or None.

        Every `wait` calls this repeatedly, thousands of them concurrently. If each read has a cost,
        answer concurrent calls with one read.
        """
        ...

    async def find_step(self, workflow_id: str, step_id: str) -> Step | None:
        """The recorded step, or None."""
        ...

    async def find_nap(self, workflow_id: str, nap_id: str) -> Nap | None:
        """The recorded nap, or None."""
        ...

    # Claiming ------------------------------------------------------------------------------------

    async def claim(self, request: ClaimRequest) -> Sequence[Claim]:
        """Claim up to `request.limit` due workflows, the longest due first.

        Eligible are workflows that are `idle`, `failed` or `running`, with `timeout_at <= now`,
        whose handler the request accepts. Store for each the record that `machine.claim` makes:

        - `running`, with a token that this workflow never had before
        - `timeout_at = now + lease`
        - `claims` one higher, and `crashes` too if it was `running`
        - `worker`, and `started_at = now` unless it has an earlier one
        - a new entry in the claim log, which keeps the newest 20

        Atomic for each workflow: no two callers get the same one. The answer may be shorter than
        `limit`, even empty, while more workflows are due. If the answer is lost, so are its claims:
        their leases expire.

        Give each claim its `due_at`, the `timeout_at` from before, unless that costs another read.
        """
        ...

    async def history(self, claims: Sequence[Claim]) -> Mapping[str, History]:
        """What the claimed workflows have recorded, by workflow id, with an entry for each claim.

        Include every record that was acknowledged before the claim. The number of reads must not
        depend on the number of claims. The engine does not ask for first runs, see
        `machine.is_first_run`.
        """
        ...

    async def renew(self, claims: Sequence[Claim], now: datetime, lease: timedelta) -> list[Claim]:
        """Set `timeout_at = now + lease` for each claim in force; return the claims that are not.

        Renew an expired lease as well, if its claim is still in force. Never shorten a lease: a
        renewal may arrive after one that was sent later. Touch nothing else. Atomic for each
        workflow.
        """
        ...

    # Recording -----------------------------------------------------------------------------------

    async def save_step(self, claim: Claim, step_id: str, output: Any, now: datetime) -> Any:
        """Record a step's output once, and return the recorded output.

        The first writer wins, even if its claim is stale. Every later caller (a repeat, a racing
        attempt, a stale one) gets the recorded output and changes nothing. The first record also
        sets `crashes` to 0 if the claim is in force; write the record before that.

        Ignore what a deleted workflow of the same id has recorded. A caller whose own workflow has
        been deleted gets `ClaimLost`, or its own output.
        """
        ...

    async def save_nap(
        self, claim: Claim, nap_id: str, wake_up_at: datetime, now: datetime
    ) -> datetime:
        """Record a nap's wake-up instant once, and return the recorded one, like `save_step`."""
        ...

    async def save_attempt(self, claim: Claim, attempt: Attempt) -> Attempt:
        """Record a failed attempt of a step once, and return the recorded one, like `save_step`.

        Step id, round and number identify an attempt. Never mistake it for a nap or a step. The
        number may be 0 or below, see `Attempt`; `machine.latest_attempts` knows their order.
        """
        ...

    async def fail_step(self, claim: Claim, failed: FailedStep) -> None:
        """Add a step that was given up to the workflow's `failed_steps`; set `crashes` to 0.

        Unlike the other records, this needs the claim in force: no later run can then see another
        outcome of the step. Atomic. A repeat changes nothing. A stale caller gets `ClaimLost`.
        """
        ...

    # Ending a claim: each call needs the claim in force, and is atomic ---------------------------

    async def park(self, claim: Claim, wake_up_at: datetime) -> None:
        """Release the claim until a nap ends: `idle`, with `timeout_at = wake_up_at`.

        A repeat changes nothing. A stale caller gets `ClaimLost`.
        """
        ...

    async def release(self, claim: Claim, now: datetime) -> None:
        """Release the claim, due at once: `idle`, with `timeout_at = now`.

        A repeat changes nothing. A stale caller gets `ClaimLost`.
        """
        ...

    async def finish(self, claim: Claim, result: Any, now: datetime) -> None:
        """End the workflow as `finished`, with `result`, and `finished_at` and `timeout_at = now`.

        Input and result share a record: together they may take `MAX_VALUE_BYTES`. A repeat changes
        nothing. A stale caller gets `ClaimLost`.
        """
        ...

    async def fail(self, claim: Claim, failure: Failure, now: datetime) -> None:
        """Record an error, and add one to `failures`.

        With a `failure.retry_at`, the workflow is `failed` and due at that instant. Without, it is
        `aborted`, with `finished_at` and `timeout_at = now`. A repeat changes nothing. A stale
        caller gets `ClaimLost`.
        """
        ...

    # Controlling from outside --------------------------------------------------------------------

    async def control(
        self, workflow_id: str, event: Transition, now: datetime, reason: str | None = None
    ) -> None:
        """Cancel, pause, resume or retry a workflow, as `machine.control` does. Atomic.

        A claim on the workflow is no longer in force. Raise `WorkflowNotFound`, or
        `TransitionRefused` if the state machine has no such transition. So a repeat is refused.
        """
        ...

    # Hints: a wait may return early for nothing, and may miss what other processes do ------------

    async def wait_for_work(self, timeout: timedelta) -> None:
        """Return when there may be work to claim, or after `timeout` on the clock."""
        ...

    async def wait_for_end(self, workflow_id: str, since: datetime, timeout: timedelta) -> bool:
        """Return True once the workflow may have ended since `since`; False after `timeout`.

        Return False sooner if the store may miss ends in other processes: the engine reads the
        workflow again. It notes the time, calls `find_standing`, and if the workflow has not ended,
        calls this with the noted time as `since`. So an end between the two calls is not missed,
        and a hint for nothing costs one read.
        """
        ...

    async def wait_for_control(self, worker: str, since: datetime, timeout: timedelta) -> bool:
        """Return True once `control` may have taken a claim of this worker since `since`.

        Return False after `timeout` on the clock. A worker that gets no hint notices at its next
        renewal.
        """
        ...
