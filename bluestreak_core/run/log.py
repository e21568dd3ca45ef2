"""The fields of log records, in their `extra`.

`workflow_id`, `handler_id`, `claim` (the number of the claim), `attempt` (of the handler, as in
`ctx.info`) and `worker` describe a workflow; `step_id` and `step_attempt` one of its steps. A field
that is not known is left out.
"""

from __future__ import annotations

import logging
from typing import Any

from bluestreak_core.model import ErrorRecord, Standing, Workflow


def fields(workflow: Workflow, **more: Any) -> dict[str, Any]:
    """The fields of a claimed workflow, and some more."""
    return {
        "workflow_id": workflow.workflow_id,
        "handler_id": workflow.handler_id,
        "claim": workflow.claims,
        "attempt": workflow.failures + 1,
        "worker": workflow.worker,
        **more,
    }


def fields_of_standing(seen: Standing) -> dict[str, Any]:
    """The fields of a workflow that somebody has seen without a claim."""
    return {"workflow_id": seen.workflow_id, "handler_id": seen.handler_id}


def log_end(logger: logging.Logger, workflow: Workflow, message: str, *args: object) -> None:
    """Log at DEBUG how a claim has ended."""
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug(
            f"workflow %r {message}",
            *(workflow.workflow_id, *args),
            extra=fields(workflow),
            stacklevel=2,
        )


def log_abort(
    logger: logging.Logger,
    workflow: Workflow,
    message: str,
    *args: object,
    error: BaseException,
    recorded: ErrorRecord,
) -> None:
    """Log at ERROR that a workflow is not tried again, with the error in `exc_info`.

    A formatter prints the recorded traceback, which is of a limited length. The error itself may be
    huge, or raise when it is printed, which would end the run.
    """
    if not logger.isEnabledFor(logging.ERROR):
        return
    path, line, function, _ = logger.findCaller(stacklevel=2)
    record = logger.makeRecord(
        *(logger.name, logging.ERROR, path, line, message, args),
        (type(error), error, error.__traceback__),
        function,
        fields(workflow),
    )
    record.exc_text = recorded.traceback.rstrip("\n")
    logger.handle(record)
