"""What a MongoDB server is like, and what to do about it. It is only looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure

from bluestreak_cli.grade import Finding, Grade
from bluestreak_core.errors import StoreRefused
from bluestreak_core.errors.text import counted
from bluestreak_mongo.connection import OwnClient
from bluestreak_mongo.driver import store_errors
from bluestreak_mongo.driver_error import shown
from bluestreak_mongo.inspection import build_info, check_collections, check_server
from bluestreak_mongo.schema import MESSAGES, NAPS, STEPS, WORKFLOWS
from bluestreak_mongo.schema.index import INDEXES

_NO_SUCH_COLLECTION = 26
_TOLERATED = timedelta(seconds=1)
_MEMBERS = 3

_NEEDED = {
    WORKFLOWS: {"find", "insert", "update", "createIndex"},
    STEPS: {"find", "insert", "createIndex"},
    NAPS: {"find", "insert", "createIndex"},
    MESSAGES: {"find", "insert", "update", "createIndex"},
}
"""The actions of the role bluestreakWorker; `changeStream` is not indispensable."""


async def diagnose(url: str, name: str) -> Sequence[Finding]:
    """Look at a server and a database.

    Raises `InvalidArgument` for a URL that is none, `StoreUnavailable` and `StoreRefused`.
    """
    connection = OwnClient(url, name)
    try:
        with store_errors():
            database = connection.open()
            began = datetime.now(UTC)
            hello = await database.command("hello")
            ended = datetime.now(UTC)
            return [
                await _server(database, hello),
                *judge_deployment(hello),
                judge_clock(hello["localTime"], began, ended),
                await _privileges(database),
                await _collections(database),
                await _indexes(database),
            ]
    finally:
        await connection.close()


async def _server(database: AsyncDatabase[Any], hello: Mapping[str, Any]) -> Finding:
    build = await build_info(database)
    version = f"MongoDB {build.get('version', 'of a version that it does not say')}"
    try:
        check_server(hello, build, [host for host, _ in database.client.nodes])
    except StoreRefused as error:
        remedy = "use MongoDB 6.0 or newer"
        return Finding(subject="server", grade=Grade.FAULT, message=str(error), remedy=remedy)
    return Finding(subject="server", grade=Grade.OK, message=version)


def judge_deployment(hello: Mapping[str, Any]) -> Iterator[Finding]:
    """What kind of deployment a server belongs to, by its answer to `hello`."""
    subject = "deployment"
    if hello.get("msg") == "isdbgrid":
        yield Finding(subject=subject, grade=Grade.OK, message="a sharded cluster")
    elif "setName" not in hello:
        yield Finding(
            subject=subject,
            grade=Grade.WARNING,
            message="a standalone server: no transactions, and idle workers find work by polling",
            remedy="make it a replica set, which may have one member",
        )
    else:
        members = len(hello.get("hosts", ())) + len(hello.get("passives", ()))
        few = members < _MEMBERS
        yield Finding(
            subject=subject,
            grade=Grade.WARNING if few else Grade.OK,
            message=f"replica set {hello['setName']!r}, {counted(members, 'member')} with data",
            remedy="in production, use three: fewer do not outlive the loss of one" if few else "",
        )
    if hello.get("arbiters"):
        yield Finding(
            subject="arbiters",
            grade=Grade.WARNING,
            message=f"{len(hello['arbiters'])}; they confirm no write",
            remedy="replace them by members with data",
        )


def judge_clock(server: datetime, began: datetime, ended: datetime) -> Finding:
    """The server's time against this machine's; the server was asked between two instants."""
    instant = server if server.tzinfo else server.replace(tzinfo=UTC)
    ahead = max(instant - ended, timedelta()) - max(began - instant, timedelta())
    seconds = f"{abs(ahead).total_seconds():.1f} s {'ahead' if ahead > timedelta() else 'behind'}"
    if abs(ahead) <= _TOLERATED:
        return Finding(subject="clock", grade=Grade.OK, message="agrees with that of this machine")
    return Finding(
        subject="clock",
        grade=Grade.WARNING,
        message=f"the server is {seconds} of this machine",
        remedy="synchronise both: Bluestreak goes by the server's, your programs by their own",
    )


async def _privileges(database: AsyncDatabase[Any]) -> Finding:
    subject = "privileges"
    try:
        status = await database.command("connectionStatus", showPrivileges=True)
    except OperationFailure as error:
        message = f"they cannot be read: {shown(error)}"
        return Finding(subject=subject, grade=Grade.WARNING, message=message)
    return judge_privileges(database.name, status["authInfo"])


def judge_privileges(database: str, info: Mapping[str, Any]) -> Finding:
    """Whether a worker may do its work, by the `authInfo` of `connectionStatus`."""
    subject = "privileges"
    if not info["authenticatedUsers"]:
        return Finding(
            subject=subject,
            grade=Grade.WARNING,
            message="the URL names no user",
            remedy="unless only you can reach the server, create users and put one into the URL",
        )
    lacking = _lacking(database, info.get("authenticatedUserPrivileges", ()))
    if lacking:
        return Finding(
            subject=subject,
            grade=Grade.WARNING,
            message=f"a worker could not do its work: no {', '.join(lacking)}",
            remedy=f"grant the user readWrite on {database!r}, or use it for clients only",
        )
    return Finding(subject=subject, grade=Grade.OK, message="all that a worker needs")


def _lacking(database: str, privileges: Sequence[Mapping[str, Any]]) -> Sequence[str]:
    return [
        f"{action} on {collection}"
        for collection, actions in _NEEDED.items()
        for action in sorted(actions - _allowed(database, collection, privileges))
    ]


def _allowed(database: str, collection: str, privileges: Sequence[Mapping[str, Any]]) -> set[str]:
    """The actions on a collection. An empty name in a resource stands for any."""
    allowed: set[str] = set()
    for privilege in privileges:
        resource = privilege["resource"]
        fits = resource.get("db") in ("", database) and resource.get("collection") in (
            "",
            collection,
        )
        if fits or resource.get("anyResource"):
            allowed |= set(privilege["actions"])
    return allowed


async def _collections(database: AsyncDatabase[Any]) -> Finding:
    try:
        await check_collections(database)
    except StoreRefused as error:
        return Finding(
            subject="collections",
            grade=Grade.FAULT,
            message=str(error),
            remedy="change it, or take another database",
        )
    return Finding(subject="collections", grade=Grade.OK, message="nothing speaks against them")


async def _indexes(database: AsyncDatabase[Any]) -> Finding:
    subject = "indexes"
    try:
        missing = [
            f"{collection} {', '.join(key)}"
            for collection in INDEXES
            for key in await _missing(database, collection)
        ]
    except OperationFailure as error:
        message = f"they cannot be read: {shown(error)}"
        return Finding(subject=subject, grade=Grade.WARNING, message=message)
    total = sum(map(len, INDEXES.values()))
    if not missing:
        return Finding(subject=subject, grade=Grade.OK, message=f"all {total} are there")
    some = missing[0] if len(missing) == 1 else f"{missing[0]}, and others"
    return Finding(
        subject=subject,
        grade=Grade.WARNING,
        message=f"{len(missing)} of {total} are missing ({some})",
        remedy="start a worker or run 'bluestreak count', which creates them",
    )


async def _missing(database: AsyncDatabase[Any], collection: str) -> Sequence[Sequence[str]]:
    """The fields of each index that a collection lacks."""
    try:
        answer = await database.command("listIndexes", collection)
    except OperationFailure as error:
        if error.code != _NO_SUCH_COLLECTION:
            raise
        found: set[tuple[str, ...]] = set()
    else:
        found = {tuple(index["key"]) for index in answer["cursor"]["firstBatch"]}
    wanted = [tuple(index.document["key"]) for index in INDEXES[collection]]
    return [key for key in wanted if key not in found]
