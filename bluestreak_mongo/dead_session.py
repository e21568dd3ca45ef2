"""Ending the transactions that dead workers have left open."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from uuid import UUID

from bson import Binary
from pymongo import UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import OperationFailure

from bluestreak_mongo import transitions
from bluestreak_mongo.candidate import Candidate
from bluestreak_mongo.driver_error import shown
from bluestreak_mongo.routing import write_each
from bluestreak_mongo.schema import Document

logger = logging.getLogger(__name__)


async def end_sessions(
    workflows: AsyncCollection[Document], abandoned: Sequence[Candidate]
) -> None:
    """End the transactions of workers whose leases have expired in one.

    The server would keep them open for another minute, and with them the locks on what they have
    written, which may be the very workflow that is to be claimed.
    """
    dead = [candidate for candidate in abandoned if isinstance(candidate.session_id, UUID)]
    if not dead:
        return
    sessions = [{"id": Binary.from_uuid(candidate.session_id)} for candidate in dead]
    try:
        await workflows.database.client.admin.command("killSessions", sessions)
    except OperationFailure as error:
        logger.warning("transactions of dead workers are left to time out: %s", shown(error))
        return
    # The worker may be alive after all, and use the session for something else from now on.
    ended = [transitions.announced(each.workflow_id, each.session_id) for each in dead]
    await write_each(workflows, [UpdateOne(each, transitions.RETRACT) for each in ended])
