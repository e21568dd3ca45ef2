"""Waiting for the end of a workflow."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, assert_never

from bluestreak_core.argument import check_id
from bluestreak_core.client.open_store import OpenStore
from bluestreak_core.client.patience import Patience
from bluestreak_core.errors import (
    WaitTimeout,
    WorkflowAborted,
    WorkflowCancelled,
    WorkflowConflict,
    WorkflowNotFound,
)
from bluestreak_core.model import ErrorRecord, Standing, Status
from bluestreak_core.run import Handler
from bluestreak_core.run.known_handlers import KnownHandlers

_SHORT_PAUSE = 0.01
"""In seconds: hints count milliseconds, so a clock that goes on has gone past the last hint."""

_STILL = 20
"""After so many pauses, the clock is taken to be one that only a test moves."""

_MILLISECOND = timedelta(milliseconds=1)

_NO_ERROR = ErrorRecord(type="unknown error", message="none was recorded", traceback="")


class Waiting:
    """The call of a client that waits for a result; see `Client.wait`."""

    def __init__(self, store: OpenStore, handlers: KnownHandlers) -> None:
        self._store = store
        self._handlers = handlers

    async def wait(self, workflow_id: str, patience: Patience, handler: Handler | None) -> Any:
        """The result of a workflow, once it has finished."""
        workflow_id = check_id("workflow id", workflow_id)
        handler_id = None if handler is None else self._handlers.id_of(handler)
        for pause in patience.pauses():
            workflow = await self._look(workflow_id, pause, handler_id)
            if workflow.status.ended:
                break
        match workflow.status:
            case Status.FINISHED:
                if handler is None:
                    return workflow.result
                return self._handlers.result(workflow_id, handler, workflow.result)
            case Status.ABORTED:
                error = workflow.error or _NO_ERROR
                raise WorkflowAborted(workflow_id, error.type, error.message, error.traceback)
            case Status.CANCELLED:
                raise WorkflowCancelled(workflow_id, workflow.reason)
            case (
                Status.IDLE
                | Status.RUNNING
                | Status.FAILED
                | Status.PAUSED
                | Status.STOPPING
                | Status.COMPENSATING
            ):
                raise WaitTimeout(workflow_id, workflow.status, patience.retries, patience.timeout)
            case _:
                assert_never(workflow.status)

    async def _look(self, workflow_id: str, pause: timedelta, handler_id: str | None) -> Standing:
        """Read the workflow until it has ended or the pause is over; hints cut the pause short."""
        store, clock = self._store.get("wait()"), self._store.clock
        since = clock.now()
        until = since + pause
        still = 0
        while True:
            workflow = await store.find_standing(workflow_id)
            if workflow is None:
                raise WorkflowNotFound(workflow_id)
            if handler_id not in (None, workflow.handler_id):
                raise WorkflowConflict(workflow_id, "handler")
            if not workflow.status.ended and (left := until - clock.now()) > timedelta(0):
                await store.wait_for_end(workflow_id, since, left)
            if workflow.status.ended or clock.now() >= until:
                return workflow
            if clock.now() <= since:  # woken for nothing, and an end may come in this millisecond
                await asyncio.sleep(_SHORT_PAUSE)
                still += 1
            since = max(clock.now(), since if still < _STILL else since + _MILLISECOND)
