"""What MongoDB 6.0 refuses, or does not do exactly once, in collections sharded by `workflowId`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)
from typing_extensions import override

Document = dict[str, Any]

KEY = "workflowId"
SHARDED = frozenset({"workflows", "steps", "naps"})

STAGES = frozenset(
    {"$match", "$project", "$group", "$replaceRoot", "$sort", "$limit", "$changeStream"}
)
"""Of an aggregation, those that each shard carries out, or the router over all of them."""

SNAPSHOTS = frozenset({"find", "aggregate", "distinct"})
"""Commands that a router lets read in a snapshot, outside of a transaction."""

IN_TRANSACTION = frozenset({"find", "aggregate", "insert", "update", "delete", "getMore"})


class ShardedCollections(CommandListener):
    """Looks at the commands of a client, and says what of them does not work on a cluster."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.names: set[str] = set()
        """The commands that were looked at."""

    @override
    def started(self, event: CommandStartedEvent) -> None:
        name, command = event.command_name, dict(event.command)
        self.names.add(name)
        collection = command.get("collection" if name == "getMore" else name)
        if name in RULES and (name in _OF_NO_COLLECTION or collection in SHARDED):
            self.faults += (f"{name}: {fault}: {command}" for fault in faults(name, command))
        elif name not in RULES:
            self.faults.append(f"{name}: nobody has looked at what a router makes of it: {command}")

    @override
    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Nobody asks."""

    @override
    def failed(self, event: CommandFailedEvent) -> None:
        """Nobody asks."""


def faults(name: str, command: Document) -> Iterator[str]:
    """What is wrong with a command."""
    yield from RULES[name](command)
    level = command.get("readConcern", {}).get("level")
    if "autocommit" in command:
        if name not in IN_TRANSACTION | {"commitTransaction", "abortTransaction"}:
            yield "is refused in a transaction"
    elif level == "snapshot" and name not in SNAPSHOTS:
        yield "is refused in a snapshot"


def _nothing(_: Document) -> Iterator[str]:
    yield from ()


def _read(command: Document) -> Iterator[str]:
    if command.get("readConcern", {}).get("level") == "available":
        yield "reads what a migration has left behind"
    mode = command.get("$readPreference", {}).get("mode", "primary")
    if mode != "primary":
        yield f"reads from a {mode}"


def _find_and_modify(command: Document) -> Iterator[str]:
    if not _names_key(command["query"]):
        yield "ShardKeyNotFound: its filter does not name the shard key"


def _update(command: Document) -> Iterator[str]:
    for write in command["updates"]:
        yield from _write(write, is_many=write.get("multi", False))
        change = write["u"]
        if not isinstance(change, list) and any(KEY in fields for fields in change.values()):
            yield "changes the shard key"


def _delete(command: Document) -> Iterator[str]:
    for write in command["deletes"]:
        yield from _write(write, is_many=not write["limit"])


def _write(write: Document, *, is_many: bool) -> Iterator[str]:
    if "collation" in write:
        yield "a shard is not found by another collation"
    if _names_key(write["q"]):
        return
    if is_many:
        yield "may change each of several workflows twice, once or not at all"
    elif write.get("upsert"):
        yield "ShardKeyNotFound: an upsert does not name the shard key"
    elif not _is_equality(write["q"].get("_id")):
        yield "a single write names neither the shard key nor _id"
    else:
        yield "is sent to all shards, and may be carried out twice"


def _insert(command: Document) -> Iterator[str]:
    if any(not isinstance(document.get(KEY), str) for document in command["documents"]):
        yield "a document has no shard key"


def _create_indexes(command: Document) -> Iterator[str]:
    for index in command["indexes"]:
        if index.get("unique") and next(iter(index["key"])) != KEY:
            yield "a unique index does not begin with the shard key"


def _aggregate(command: Document) -> Iterator[str]:
    yield from _read(command)
    unknown = {next(iter(stage)) for stage in command["pipeline"]} - STAGES
    if unknown:
        yield f"nobody has looked at what a router makes of {sorted(unknown)}"


RULES: dict[str, Callable[[Document], Iterator[str]]] = {
    "abortTransaction": _nothing,
    "aggregate": _aggregate,
    "buildInfo": _nothing,
    "commitTransaction": _nothing,
    "createIndexes": _create_indexes,
    "delete": _delete,
    "endSessions": _nothing,
    "find": _read,
    "findAndModify": _find_and_modify,
    "getMore": _nothing,
    "hello": _nothing,
    "insert": _insert,
    "killCursors": _nothing,
    "killSessions": _nothing,
    "listCollections": _nothing,
    "listIndexes": _nothing,
    "update": _update,
}
_OF_NO_COLLECTION = frozenset(
    {
        "abortTransaction",
        "buildInfo",
        "commitTransaction",
        "endSessions",
        "hello",
        "killSessions",
        "listCollections",
    }
)


def _names_key(filter: Document) -> bool:
    """Whether a filter has an equality on the shard key, from which a router knows the shard."""
    return _is_equality(filter.get(KEY)) or any(map(_names_key, filter.get("$and", ())))


def _is_equality(value: Any) -> bool:
    return value is not None and (not isinstance(value, dict) or set(value) == {"$eq"})
