"""The ledger: what every call of a step writes down, before it returns.

It is on a server of its own, which nothing is done to: evidence must not be lost with the accused.
Only what transactions write is beside the workflows, where it has to be committed with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Document = dict[str, Any]

DATABASE = "ledger"
COLLECTION = "calls"

EFFECTS_DATABASE = "effects"
EFFECTS = "effects"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of a step.

    `run` is the execution of the handler that made it, in the process `pid`. `saw` has the tokens
    of the steps that this run had behind it. A call that `raised` has no output; of any other the
    output carries `token`. `called_at` is the machine's time, `by_store_at` what the worker took
    for the server's.
    """

    workflow_id: str
    step_id: str
    token: str
    run: str
    pid: int
    called_at: datetime
    by_store_at: datetime
    saw: Mapping[str, str]
    raised: bool = False
    blocked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What a transaction has written; nothing but the transaction keeps it from being doubled."""

    workflow_id: str
    step_id: str
    token: str


def from_effect(effect: Effect) -> Document:
    return {"workflowId": effect.workflow_id, "stepId": effect.step_id, "token": effect.token}


def to_effect(document: Mapping[str, Any]) -> Effect:
    return Effect(
        workflow_id=document["workflowId"], step_id=document["stepId"], token=document["token"]
    )


def from_call(call: Call) -> Document:
    return {
        "_id": call.token,
        "workflowId": call.workflow_id,
        "stepId": call.step_id,
        "run": call.run,
        "pid": call.pid,
        "calledAt": call.called_at,
        "byStoreAt": call.by_store_at,
        "saw": dict(call.saw),
        "raised": call.raised,
        "blocked": call.blocked,
    }


def to_call(document: Mapping[str, Any]) -> Call:
    return Call(
        workflow_id=document["workflowId"],
        step_id=document["stepId"],
        token=document["_id"],
        run=document["run"],
        pid=document["pid"],
        called_at=document["calledAt"],
        by_store_at=document["byStoreAt"],
        saw=document["saw"],
        raised=document["raised"],
        blocked=document["blocked"],
    )
