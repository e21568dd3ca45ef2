"""The stored documents: only this package spells the name of a collection, a field or an index.

There is a module for each collection (`workflow`, `step`, `nap`, `message`, `worker`), for what
documents share (`record`), and for each kind of subdocument. In each, the first fields are those
that the JavaScript library writes, which may share the database: they are never renamed or retyped.
The others are ours, and that library ignores them. It knows nothing of messages and workers.

The rest of the store imports the fields of a workflow as `wf.STATUS`, and everything else by name.
"""

from bluestreak_mongo.schema.document import (
    FIRST_DATE,
    MESSAGES,
    NAPS,
    STEPS,
    WORKERS,
    WORKFLOWS,
    Document,
    Index,
)

__all__ = ["FIRST_DATE", "MESSAGES", "NAPS", "STEPS", "WORKERS", "WORKFLOWS", "Document", "Index"]
