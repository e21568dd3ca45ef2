"""An entry of a workflow's claim log."""

from __future__ import annotations

from bluestreak_core.model import ClaimEntry
from bluestreak_mongo.schema.document import Document
from bluestreak_mongo.schema.reader import Reader

WORKER = "worker"
CLAIMED_AT = "claimedAt"
AFTER_CRASH = "afterCrash"


def from_claim_entry(entry: ClaimEntry) -> Document:
    """The document of an entry."""
    return {
        WORKER: entry.worker,
        CLAIMED_AT: entry.claimed_at,
        AFTER_CRASH: entry.after_crash,
    }


def read_claim_entry(read: Reader) -> ClaimEntry:
    """The entry in a document."""
    return ClaimEntry(
        worker=read.text(WORKER),
        claimed_at=read.instant(CLAIMED_AT),
        after_crash=read.flag(AFTER_CRASH),
    )
