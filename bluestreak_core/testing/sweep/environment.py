"""The environment of a run in a crash sweep."""

from __future__ import annotations

import asyncio
from typing import Any

from bluestreak_core.errors import Unsupported
from bluestreak_core.model import Status
from bluestreak_core.run import Handler, HandlerPolicy
from bluestreak_core.testing.sweep.crashing_store import CrashingStore
from bluestreak_core.testing.sweep.observer import ObservedStore, StepObserver
from bluestreak_core.testing.sweep.rerun import WORKFLOW_ID, Rerun
from bluestreak_core.testing.virtual import Environment, Outcome
from bluestreak_core.testing.virtual.handlers import id_of, to_policy
from bluestreak_memory import MemoryStore


def swept_environment(rerun: Rerun) -> Environment:
    """An environment that notes in a run what happens, and kills its worker where the run says."""
    settings = dict(rerun.settings)
    new_store = settings.pop("store", None) or (lambda clock: MemoryStore(clock=clock))
    hooks = (StepObserver(rerun), *settings.pop("hooks", ()))

    def crash() -> None:
        environment.crash()

    environment = Environment(
        store=lambda clock: ObservedStore(new_store(clock), rerun),
        worker_store=lambda store: CrashingStore(store, rerun, crash),
        hooks=hooks,
        **settings,
    )
    return environment


def begin(
    environment: Environment, handler: Handler, input: Any, policy: HandlerPolicy | None
) -> None:
    """Start the workflow that is swept."""
    environment.register_handler(id_of(handler), handler, **to_policy(policy))
    environment.start(WORKFLOW_ID, id_of(handler), input)


def final_outcomes(environment: Environment) -> dict[str, Outcome]:
    """What has become of all workflows, once they and their runs have ended."""
    environment.wait(WORKFLOW_ID)
    while unended := [wid for wid, status in _statuses(environment).items() if not status.ended]:
        environment.wait(unended[0])
    if Status.CANCELLED in _statuses(environment).values():
        environment.call(_until_no_run_is_left(environment))
    return {workflow_id: environment.outcome(workflow_id) for workflow_id in _statuses(environment)}


def _statuses(environment: Environment) -> dict[str, Status]:
    try:
        summaries = environment.call(environment.bluestreak.list())
    except Unsupported:
        return {WORKFLOW_ID: environment.outcome(WORKFLOW_ID).status}
    return {summary.workflow_id: summary.status for summary in summaries}


async def _until_no_run_is_left(environment: Environment) -> None:
    """The run of a cancelled workflow may still be there."""
    while environment.runs:  # noqa: ASYNC110
        await asyncio.sleep(1)  # of virtual time
