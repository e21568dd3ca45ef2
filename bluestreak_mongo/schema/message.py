"""The documents of messages, and of the steps that have received them.

The `messageId` of a step says which message of the mailbox it has taken. That is the only truth:
`unread` is removed from the message afterwards, so that later looks pass it over. What the step has
got is `received`, which a fork copies; the `messageId` stays behind with the mailbox.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bluestreak_core.model import NewMessage, Receipt
from bluestreak_mongo.schema.document import MESSAGES, WORKFLOW_ID, Document
from bluestreak_mongo.schema.reader import Reader
from bluestreak_mongo.schema.record import Owner

MESSAGE_ID = "messageId"
NAME = "name"
PAYLOAD = "payload"
SENT_AT = "sentAt"
PLACE = "place"
"""Orders the messages of a mailbox: it grows with each that a sender sends, and with the time."""
UNREAD = "unread"
REFUSED = "refused"
"""It came too late: its workflow had ended before it was counted there, and its sender was told."""

RECEIVED = "received"


def from_message(message: NewMessage, owner: Owner, place: int) -> Document:
    """The document of a message that nobody has received."""
    return {
        **owner.stamp,
        MESSAGE_ID: message.message_id,
        NAME: message.name,
        PAYLOAD: message.payload,
        SENT_AT: message.sent_at,
        PLACE: place,
        UNREAD: True,
    }


def to_message(document: Mapping[str, Any]) -> NewMessage:
    """The message in a document."""
    read = Reader(MESSAGES, document)
    return NewMessage(
        workflow_id=read.text(WORKFLOW_ID),
        message_id=read.text(MESSAGE_ID),
        name=read.text(NAME),
        payload=document.get(PAYLOAD),
        sent_at=read.instant(SENT_AT),
    )


def unread_of(owner: Owner) -> Document:
    """Matches the messages to a workflow that have not been received, as far as is noted."""
    return owner.stamp | {UNREAD: True}


def message_key(owner: Owner, message_id: str) -> Document:
    """Matches a message, by the owner of the mailbox; or the step that has received it, by its own
    owner.
    """
    return owner.stamp | {MESSAGE_ID: message_id}


def from_receipt(receipt: Receipt) -> Document:
    """The fields of a step that say what it has received."""
    if receipt.timed_out:
        return {RECEIVED: {}}
    got = {MESSAGE_ID: receipt.message_id, NAME: receipt.name, SENT_AT: receipt.sent_at}
    return {MESSAGE_ID: receipt.message_id, RECEIVED: got}


def read_receipt(read: Reader) -> Receipt | None:
    """What a step has received, if it is one that receives."""
    if not read.has(RECEIVED):
        return None
    got = read.inside(RECEIVED)
    return Receipt(
        message_id=got.optional_text(MESSAGE_ID),
        name=got.optional_text(NAME),
        sent_at=got.optional_instant(SENT_AT),
    )
