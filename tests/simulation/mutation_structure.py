"""Guards of children, compensations, restarts and branches taken away; see `mutation`."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

from bluestreak_core import Claim, Parent, Status, machine
from bluestreak_core.client.resolving import Resolution, Resolving
from bluestreak_core.machine import Transition
from bluestreak_core.model import OnParentEnd, Standing
from bluestreak_core.run import settling
from bluestreak_core.run.attempts import Attempts
from bluestreak_core.run.compensations import Compensations
from bluestreak_core.run.family import Family
from bluestreak_core.run.frame import Frame
from bluestreak_core.run.publisher import Publisher
from bluestreak_core.run.structure import decision
from bluestreak_core.run.verb import child
from bluestreak_core.worker.relatives import Relatives
from bluestreak_memory import MemoryStore
from bluestreak_memory.record import Record
from bluestreak_memory.workflows import Workflows
from tests.simulation.guard import Mutation, nothing


async def _none(*_: Any, **__: Any) -> list[Any]:
    return []


async def _no(*_: Any, **__: Any) -> bool:
    return False


async def _always_revived(frame: Frame, found: Standing) -> bool:
    return found.status is Status.CANCELLED and found.reason == settling.PARENT_ENDED


def _all_children(
    workflows: Workflows, workflow_id: str, created_at: datetime | None
) -> Iterator[str]:
    for on_end in OnParentEnd:
        ours = Parent(workflow_id=workflow_id, created_at=created_at, on_end=on_end)
        for child_id in workflows._children.get(workflow_id, ()):
            found = workflows._records[child_id].workflow
            if found.parent == ours and found.status in machine.sources(Transition.CANCEL):
                yield child_id


_look = child._look


async def _another_result(*asked: Any) -> Any:
    found = await _look(*asked)
    return replace(found, result=["another"]) if found.status is Status.FINISHED else found


def _as_aborted(outcome: Status | None) -> Transition:
    return Transition.END_ABORTED


_stop = machine.change._stopped


def _due_at_once(event: Transition, outcome: Status, now: datetime) -> dict[str, Any]:
    return _stop(event, outcome, now) | {"timeout_at": now}


def _only_the_last(compensations: Compensations) -> list[Any]:
    return compensations.registered[-1:]


def _keep_records(record: Record, input_size: int, received: Collection[str]) -> None:
    record.input_size = input_size


def _of_any_generation(claim: Claim, workflow: Any) -> bool:
    return workflow is not None and workflow.created_at == claim.workflow.created_at


async def _always_begun(attempts: Attempts) -> bool:
    return True


async def _decided_without_a_record(*_: Any) -> None: ...


def _publish_again(publisher: Publisher, name: str, value: Any) -> None:
    publisher._latest.pop(name, None)
    _publish(publisher, name, value)


_publish = Publisher.publish
_resolve = Resolving.resolve


async def _own_answer(
    resolving: Resolving, token: str, payload: Any, error: str | None, type: Any
) -> Resolution:
    told = await _resolve(resolving, token, payload, error, type)
    return replace(told, payload=payload, error=error)


STRUCTURE: dict[str, Mutation] = {
    "a child does not tell its parent of its end": Mutation(1, [(MemoryStore, "nudge", nothing)]),
    "the children of what has ended go on": Mutation(
        25, [(settling, "_end_children", _none), (Family, "is_orphan", _no)]
    ),
    "abandoned children are cancelled": Mutation(20, [(Workflows, "live_children", _all_children)]),
    "nobody settles what a dead process has left": Mutation(21, [(Relatives, "run", nothing)]),
    "a parent records another result than its child's": Mutation(
        1, [(child, "_look", _another_result)]
    ),
    "a child that has compensated is retried again and again": Mutation(
        61, [(child, "_revive", _always_revived)]
    ),
    "whatever is stopped ends as aborted": Mutation(
        1, [(machine.change, "end_transition", _as_aborted)]
    ),
    "a workflow that is stopped is due at once": Mutation(
        4, [(machine.change, "_stopped", _due_at_once)]
    ),
    "only the last compensation is carried out": Mutation(
        1, [(Compensations, "last_first", _only_the_last)]
    ),
    "a restart forgets nothing": Mutation(6, [(Record, "forget", _keep_records)]),
    "a run of the last generation records in the next one": Mutation(
        171, [(machine, "is_of", _of_any_generation)]
    ),
    "that a call begins is not recorded": Mutation(34, [(Attempts, "begin", _always_begun)]),
    "what a fan-out has decided is not recorded": Mutation(
        47, [(decision, "_record", _decided_without_a_record)]
    ),
    "a run publishes again what an earlier one has": Mutation(
        4, [(Publisher, "publish", _publish_again)]
    ),
    "what is published last is not written": Mutation(21, [(Publisher, "flush", nothing)]),
    "each answer of a callback counts for its sender": Mutation(
        1, [(Resolving, "resolve", _own_answer)]
    ),
}
