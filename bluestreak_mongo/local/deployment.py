"""What turns servers that listen into one deployment: a replica set, and a user."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pymongo
from pymongo.errors import AutoReconnect, OperationFailure

HOST = "127.0.0.1"
USER = "bluestreak"
SET_NAME = "bluestreak"
LOOK_AGAIN = 0.01  # seconds

# Members find each other, and a new primary, in two seconds instead of ten.
_SET_SETTINGS = {"heartbeatIntervalMillis": 200, "electionTimeoutMillis": 2000}
_ALREADY_INITIALISED = 23
_ATTEMPTS = 3
_USER_EXISTS = 51003

Client = pymongo.MongoClient[dict[str, Any]]


def set_up(ports: Sequence[int], *, replica_set: bool, key: str, deadline: float) -> None:
    """Return once the servers take writes, and know the user whose password is `key`, if any.

    Servers over folders that were kept have both already, but may be on other ports now. Raises
    `PyMongoError` if that does not succeed by the monotonic instant `deadline`.
    """
    hosts = [f"{HOST}:{port}" for port in ports]
    with _connected(hosts, key, deadline) as clients:
        if replica_set:
            _form_set(clients, hosts)
        if key:
            _create_user(next(filter(_is_primary, clients)), key)


@contextmanager
def _connected(hosts: Sequence[str], key: str, deadline: float) -> Iterator[list[Client]]:
    """A client for each server, as the members of a set know each other if there is a key."""
    options: dict[str, Any] = {"directConnection": True}
    if key:
        options |= {"username": "__system", "password": key, "authSource": "local"}
        options |= {"authMechanism": "SCRAM-SHA-256"}
    remaining = max(0.001, deadline - time.monotonic())  # 0 would mean no limit
    with contextlib.ExitStack() as stack, pymongo.timeout(remaining):
        yield [stack.enter_context(pymongo.MongoClient(host, **options)) for host in hosts]


def _form_set(clients: Sequence[Client], hosts: Sequence[str]) -> None:
    """Return once the set has a primary and all members have its data.

    A member closes its connections when its state changes, also while it is asked something. What
    was done by then is found done.
    """
    for _ in range(_ATTEMPTS - 1):
        with contextlib.suppress(AutoReconnect):
            return _form_set_at_once(clients, hosts)
    return _form_set_at_once(clients, hosts)


def _form_set_at_once(clients: Sequence[Client], hosts: Sequence[str]) -> None:
    admin = clients[0].admin
    members = [{"_id": place, "host": host} for place, host in enumerate(hosts)]
    config: dict[str, Any] = {"_id": SET_NAME, "members": members, "settings": _SET_SETTINGS}
    try:
        admin.command("replSetInitiate", config)
    except OperationFailure as error:
        if error.code != _ALREADY_INITIALISED:
            raise
        kept = admin.command("replSetGetConfig")["config"]
        if [member["host"] for member in kept["members"]] != hosts:
            config["version"] = kept["version"] + 1
            admin.command("replSetReconfig", config, force=True)
    while not _is_complete(clients):
        time.sleep(LOOK_AGAIN)
        # Several members would wait for the election timeout before one of them stands.
        with contextlib.suppress(OperationFailure):  # not yet, or not allowed
            admin.command("replSetStepUp")


def _is_complete(clients: Sequence[Client]) -> bool:
    answers = [client.admin.command("hello") for client in clients]
    primary = [answer["isWritablePrimary"] for answer in answers]
    return any(primary) and all(
        leads or answer["secondary"] for leads, answer in zip(primary, answers, strict=True)
    )


def _is_primary(client: Client) -> bool:
    return bool(client.admin.command("hello")["isWritablePrimary"])


def _create_user(client: Client, password: str) -> None:
    try:
        client.admin.command(
            "createUser", USER, pwd=password, roles=["root"], mechanisms=["SCRAM-SHA-256"]
        )
    except OperationFailure as error:
        if error.code != _USER_EXISTS:
            raise
