"""The calls of a client that change workflows from outside."""

from __future__ import annotations

from typing import Any

from bluestreak_core.client.control import Control
from bluestreak_core.machine import Transition


class ControlCalls:
    """Cancels, pauses, resumes, retries and forks workflows; a part of `Client`."""

    _control: Control

    async def cancel(
        self, workflow_id: str, reason: str | None = None, *, session: Any = None
    ) -> bool:
        """End a workflow at once, in any state. Returns True; False if it has ended or compensates.

        If a worker runs it, the worker cancels its handler. From now on, `wait` raises
        `WorkflowCancelled`. If the handler has registered compensations with `ctx.compensate`, the
        workflow is `stopping` first, and `wait` raises once a worker has carried them out.
        With `session`, the cancellation is a part of the transaction that is in progress in it, see
        `start`.

        Raises `InvalidId`, `WorkflowNotFound`, `InvalidArgument` for a reason that is not a str or
        too long and for anything but a session, and `Unsupported` if there are no transactions.
        """
        return await self._control.cancel(workflow_id, reason, session)

    async def pause(self, workflow_id: str) -> None:
        """Keep a workflow from running until it is resumed. A running handler is cancelled.

        Raises `InvalidId`, `WorkflowNotFound`, and `TransitionRefused` if it is paused or has
        ended.
        """
        await self._control.change(workflow_id, Transition.PAUSE)

    async def resume(self, workflow_id: str) -> None:
        """Let a paused workflow go on: at once, or when the nap or retry pause that it was in ends.

        Raises `InvalidId`, `WorkflowNotFound`, and `TransitionRefused` if it is not paused.
        """
        await self._control.change(workflow_id, Transition.RESUME)

    async def retry(self, workflow_id: str) -> None:
        """Run an aborted or cancelled workflow again, over its recorded steps.

        Its failures are forgotten, and so is which steps were given up; its `deadline` starts anew.

        Raises `InvalidId`, `WorkflowNotFound`, and `TransitionRefused` if it is in another state,
        or has undone its steps by compensations.
        """
        await self._control.change(workflow_id, Transition.RETRY)

    async def fork(self, workflow_id: str, new_id: str, before: str | None = None) -> bool:
        """Start a workflow with the handler, the input and the records of another one.

        The new workflow has the steps, the naps and the given-up steps that were recorded before
        the step `before`, and continues there; without `before`, it has all of them. The other
        workflow may be in any state, and stays in it.

        Returns True; False, and changes nothing, if the new id exists. If the store needs several
        writes and one of them fails, the new workflow is left `paused`; the same call completes it.

        Raises `InvalidId`, `WorkflowNotFound`, `StepNotRecorded`; `TransitionRefused` without
        `before` if the other workflow has undone its steps by compensations, or is about to; and
        `Unsupported` if the store cannot fork.
        """
        return await self._control.fork(workflow_id, new_id, before)
