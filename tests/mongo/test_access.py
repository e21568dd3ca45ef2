"""Authentication, encryption and privileges: what goes through to the server, and what is shown."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import re
import socket
import traceback
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
import trustme
from pymongo import AsyncMongoClient, MongoClient

from bluestreak_core import (
    Bluestreak,
    Clock,
    Context,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    WorkflowEnded,
)
from bluestreak_core.model import ClaimRequest
from bluestreak_core.testing import ManualClock
from bluestreak_mongo import LocalMongo, MongoStore
from tests.arrange import eventually
from tests.mongo.arrange import (
    CALLS,
    LEASE,
    NOW,
    WORKER,
    Document,
    claimed,
    message,
    new,
    polling,
    whole_life,
)

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.server,
    pytest.mark.usefixtures("unmeasured"),
    # PyMongo forgets the socket of an attempt to connect that its close() cancels.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

SECRET = "s3cr3t"
PASSWORD = f"{SECRET}%@:/?#[]{SECRET}"
OTHER = f"another {SECRET}"

PAGE = Path(__file__).parents[2] / "docs" / "mongodb.md"
DATABASE = "myapp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarded:
    """A replica set that wants credentials, and a client that may do everything."""

    address: str
    root: MongoClient[Document]

    def url(self, user: str, password: str = PASSWORD, **options: str) -> str:
        credentials = f"{quote_plus(user)}:{quote_plus(password)}"
        options = {"authSource": "admin"} | options
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return self.address.replace("//", f"//{credentials}@") + f"&{query}"

    def create_user(self, user: str, roles: list[Any], database: str = "admin") -> None:
        self.root[database].command(
            "createUser", user, pwd=PASSWORD, roles=roles, mechanisms=["SCRAM-SHA-256"]
        )


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    key = tmp_path_factory.mktemp("keys") / "key"
    key.write_text(SECRET * 3)
    key.chmod(0o600)
    with LocalMongo(authorization=False, arguments=["--auth", "--keyFile", str(key)]) as server:
        with MongoClient[Document](server.url) as client:  # the exception that localhost has
            client.admin.command("createUser", "root", pwd=PASSWORD, roles=["root"])
        with MongoClient[Document](server.url, username="root", password=PASSWORD) as root:
            guarded = Guarded(address=server.url, root=root)
            guarded.create_user("ada", ["readWriteAnyDatabase"])
            guarded.create_user("app", [{"role": "readWrite", "db": DATABASE}], DATABASE)
            yield guarded


@pytest.fixture(autouse=True)
def _empty(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    gc.collect()
    if "guarded" in request.fixturenames:
        guarded: Guarded = request.getfixturevalue("guarded")
        guarded.root.drop_database(DATABASE)


# Credentials -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "options"),
    [
        ("ada", {}),
        ("ada", {"authMechanism": "SCRAM-SHA-256"}),
        ("app", {"authSource": DATABASE}),
    ],
)
async def test_credentials_and_how_they_are_proved_are_taken_from_the_url(
    guarded: Guarded, clock: ManualClock, user: str, options: dict[str, str]
) -> None:
    url = guarded.url(user, **options)
    await whole_life(MongoStore(url, database=DATABASE, clock=clock), clock)


async def test_the_database_of_the_url_is_the_one_that_authenticates(
    guarded: Guarded, clock: ManualClock
) -> None:
    url = guarded.url("app").replace("/?", f"/{DATABASE}?").replace("&authSource=admin", "")
    await whole_life(MongoStore(url, database=DATABASE, clock=clock), clock)


async def test_a_worker_whose_user_is_taken_away_ends(guarded: Guarded) -> None:
    guarded.create_user("leaving", [{"role": "readWrite", "db": DATABASE}])
    url = guarded.url("leaving", serverSelectionTimeoutMS="500")
    store = MongoStore(url, database=DATABASE)
    async with Bluestreak(store, poll_interval=0.05) as bluestreak:
        poll = asyncio.create_task(bluestreak.poll())
        await eventually(lambda: bluestreak.health().last_contact_at is not None)
        guarded.root.admin.command("dropUser", "leaving")
        with pytest.raises(StoreRefused) as refused:
            await poll
    assert SECRET not in everything_shown(refused.value)


@asynccontextmanager
async def fickle(guarded: Guarded, clock: Clock | None = None) -> AsyncIterator[MongoStore]:
    """A store of a user who comes and goes."""
    guarded.create_user("fickle", [{"role": "readWrite", "db": DATABASE}])
    store = MongoStore(guarded.url("fickle"), database=DATABASE, clock=clock)
    await store.init()
    try:
        yield store
    finally:
        await store.close()
        guarded.root.admin.command("dropUser", "fickle")


def drop_and_create(guarded: Guarded) -> None:
    """The server forgets whose connections there are, so that none of them may do anything."""
    guarded.root.admin.command("dropUser", "fickle")
    guarded.create_user("fickle", [{"role": "readWrite", "db": DATABASE}])


@pytest.mark.parametrize("call", CALLS)
async def test_a_call_of_a_user_who_was_created_again_is_made_by_another_connection(
    guarded: Guarded, clock: ManualClock, call: str
) -> None:
    async with fickle(guarded, clock) as store:
        claim = await claimed(store)
        drop_and_create(guarded)
        await CALLS[call](store, claim)
        assert await store.save_step(claim, "other", "output", NOW) == "output"


async def test_a_renewal_from_a_thread_for_a_user_who_was_created_again_can_be_repeated(
    guarded: Guarded, clock: ManualClock
) -> None:
    async with fickle(guarded, clock) as store:
        claim = await claimed(store)
        with closing(store.renewer()) as renewer:
            assert renewer.renew([claim], NOW, LEASE) == []
            drop_and_create(guarded)
            with pytest.raises(StoreUnavailable, match="requires authentication"):
                renewer.renew([claim], NOW, LEASE)
            assert renewer.renew([claim], NOW, LEASE) == []


async def test_workers_outlast_that_their_user_is_created_again(guarded: Guarded) -> None:
    called: list[str] = []
    async with (
        fickle(guarded) as store,
        Bluestreak(store, poll_interval=0.05) as bluestreak,
    ):

        async def charge(name: str) -> str:
            called.append(name)
            if name == "second":
                drop_and_create(guarded)  # on the event loop, so that nobody connects meanwhile
            return name

        @bluestreak.handler("h")
        async def handle(ctx: Context, name: str) -> str:
            return await ctx.step("charge", charge, name)

        async with polling(bluestreak):
            for name in ("first", "second", "third"):
                await bluestreak.start(name, "h", name)
                assert await bluestreak.wait(name) == name
    assert called == ["first", "second", "third"]


async def test_calls_of_a_user_who_is_gone_are_refused_until_the_user_is_created_again(
    guarded: Guarded, clock: ManualClock
) -> None:
    async with fickle(guarded, clock) as store:
        claim = await claimed(store)
        guarded.root.admin.command("dropUser", "fickle")
        for name in ("find_workflow", "create", "claim", "find_workflow"):
            with pytest.raises(StoreRefused, match="Authentication failed"):
                await CALLS[name](store, claim)
        guarded.create_user("fickle", [{"role": "readWrite", "db": DATABASE}])
        assert await store.find_workflow("w")
        assert await store.create(new("w2"))


async def test_a_given_database_whose_user_was_created_again_is_refused(
    guarded: Guarded, clock: ManualClock
) -> None:
    async with fickle(guarded), AsyncMongoClient[Document](guarded.url("fickle")) as client:
        store = MongoStore.from_database(client[DATABASE], clock=clock)
        await store.init()
        drop_and_create(guarded)
        with pytest.raises(StoreRefused, match="requires authentication"):
            await store.create(new("w"))
        await store.close()


async def test_a_server_that_wants_credentials_refuses_a_url_without(guarded: Guarded) -> None:
    store = MongoStore(guarded.address, database=DATABASE)
    with pytest.raises(StoreRefused, match="requires authentication"):
        await store.init()


# What is shown ---------------------------------------------------------------------------------


def everything_shown(error: BaseException) -> str:
    """All that a log could show of an exception and of those behind it."""
    shown = traceback.format_exception(error)
    behind: BaseException | None = error
    while behind is not None:
        shown += [str(behind), repr(behind), repr(behind.args), repr(getattr(behind, "details", 0))]
        behind = behind.__cause__ or behind.__context__
    return "\n".join(shown)


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


Unfit = Callable[[Guarded, int], str]

UNFIT: dict[str, Unfit] = {
    "wrong password": lambda guarded, _: guarded.url("ada", OTHER),
    "no such user": lambda guarded, _: guarded.url(SECRET),
    "another authSource": lambda guarded, _: guarded.url("ada", authSource="local"),
    "another mechanism": lambda guarded, _: guarded.url("ada", authMechanism="SCRAM-SHA-1"),
    "a mechanism in the clear": lambda guarded, _: guarded.url(
        "ada", authMechanism="PLAIN", authSource="$external"
    ),
    "TLS where there is none": lambda guarded, _: guarded.url("ada", tls="true"),
    "nobody listens": lambda _, port: f"mongodb://ada:{quote_plus(PASSWORD)}@127.0.0.1:{port}/?w=1",
    "no such host": lambda *_: f"mongodb://ada:{quote_plus(PASSWORD)}@no-such-host.invalid/?w=1",
}


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("name", UNFIT)
async def test_no_secret_is_shown_of_a_store_that_cannot_be_opened(
    guarded: Guarded,
    closed_port: int,
    name: str,
    given: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    url = UNFIT[name](guarded, closed_port) + "&serverSelectionTimeoutMS=300"
    async with AsyncMongoClient[Document](url) as client:
        store = MongoStore.from_database(client["shop"]) if given else MongoStore(url)
        bluestreak = Bluestreak(store)
        with pytest.raises(StoreError) as raised:
            await bluestreak.init()
    shown = [everything_shown(raised.value), repr(store), repr(bluestreak)]
    shown += [repr(bluestreak.health()), caplog.text, repr(caplog.records)]
    assert all(secret not in text for text in shown for secret in (SECRET, quote_plus(PASSWORD)))


async def test_no_secret_is_shown_or_stored_of_a_store_that_works_and_then_does_not(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "bluestreak_core")
    caplog.set_level(logging.DEBUG, "bluestreak_mongo")
    store = MongoStore(guarded.url("ada"), database=DATABASE)
    bluestreak = Bluestreak(store, max_failures=0)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        async with Bluestreak(MongoStore(guarded.url("ada", OTHER))):
            pass

    async with bluestreak:
        poll = asyncio.create_task(bluestreak.poll())
        await bluestreak.start("w", "h")
        with pytest.raises(Exception, match="Authentication failed") as aborted:
            await bluestreak.wait("w")
        bluestreak.stop()
        await poll
    (stored,) = guarded.root[DATABASE].workflows.find()
    assert "Authentication failed" in stored["error"]["message"]
    for shown in (caplog.text, repr(stored), everything_shown(aborted.value)):
        assert SECRET not in shown


async def test_no_secret_is_shown_while_a_server_is_away(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with LocalMongo(replica_set=False, authorization=False, arguments=["--auth"]) as server:
        with MongoClient[Document](server.url) as client:
            client.admin.command("createUser", "ada", pwd=PASSWORD, roles=["root"])
        url = server.url.replace("//", f"//ada:{quote_plus(PASSWORD)}@")
        store = MongoStore(url + "&serverSelectionTimeoutMS=100")
        bluestreak = Bluestreak(store, poll_interval=0.05)
        await bluestreak.init()
    poll = asyncio.create_task(bluestreak.poll())
    await eventually(lambda: bluestreak.health().last_store_error is not None)
    health = bluestreak.health()
    bluestreak.stop()
    await poll
    with pytest.raises(StoreUnavailable) as raised:
        await bluestreak.find_workflow("w")
    await bluestreak.close()
    assert "127.0.0.1" in repr(health)
    for shown in (repr(health), caplog.text, everything_shown(raised.value)):
        assert SECRET not in shown
        assert quote_plus(PASSWORD) not in shown


# Privileges ------------------------------------------------------------------------------------


def documented(role: str) -> dict[str, list[str]]:
    """The actions of a role by collection, from the command that the documentation gives."""
    commands = re.findall(r"db\.createRole\((\{.*?\n\})\)", PAGE.read_text(), re.DOTALL)
    (found,) = [parsed for command in commands if (parsed := json.loads(command))["role"] == role]
    assert all(privilege["resource"]["db"] == DATABASE for privilege in found["privileges"])
    assert found["roles"] == []
    return {
        privilege["resource"]["collection"]: privilege["actions"]
        for privilege in found["privileges"]
    }


@asynccontextmanager
async def restricted(
    guarded: Guarded, actions: dict[str, list[str]], clock: ManualClock
) -> AsyncIterator[MongoStore]:
    """A store of a user who may do this, and nothing else."""
    privileges = [
        {"resource": {"db": DATABASE, "collection": collection}, "actions": allowed}
        for collection, allowed in actions.items()
    ]
    guarded.root[DATABASE].command("createRole", "restricted", privileges=privileges, roles=[])
    guarded.create_user("restricted", ["restricted"], DATABASE)
    store = MongoStore(
        guarded.url("restricted", authSource=DATABASE), database=DATABASE, clock=clock
    )
    try:
        yield store
    finally:
        await store.close()
        guarded.root[DATABASE].command("dropUser", "restricted")
        guarded.root[DATABASE].command("dropRole", "restricted")


async def refused_calls(
    guarded: Guarded, store: MongoStore, clock: ManualClock, calls: Iterable[str] = CALLS
) -> set[str]:
    """Which of the calls of a store are refused, each tried with a claim of its own in force."""
    try:
        await store.init()
    except StoreRefused:
        return {"init"}
    refused: set[str] = set()
    owner = MongoStore(guarded.url("root"), database=DATABASE, clock=clock)
    await owner.init()
    for name in calls:
        for collection in ("workflows", "steps", "naps", "messages", "workers"):
            guarded.root[DATABASE][collection].delete_many({})
        claim = await claimed(owner)
        if name == "claim":
            await owner.create(new("due"))
        if name == "find_workers":
            await owner.register_worker(WORKER)
        if name in ("receive", "prune"):
            await owner.send(message())
        if name == "prune":
            await owner.save_step(claim, "s", 1, NOW)
            await owner.save_nap(claim, "n", NOW, NOW)
            await owner.finish(claim, None, NOW)
        try:
            await CALLS[name](store, claim)
        except StoreRefused:
            refused.add(name)
    await owner.close()
    return refused


ENDINGS = {"park", "park_until_message", "release", "finish", "fail"}
LOOKS = {"find_workflow", "find_standing", "wait_for_control"}
SEARCHES = {"find_page", "count"}
MAIL = {"send", "receive", "find_unread", "find_message", "beat"}
STARTS = {"create", "create_many"}
COMPENSATING = {"promise", "give_up", "hand_over", "postpone", "end_compensated"}
CLAIMED = {
    *("claim", "renew", "fail_step", "transact", "publish", "restart"),
    *(*ENDINGS, *COMPENSATING),
}

NEEDED: dict[tuple[str, str], set[str]] = {
    ("workflows", "find"): {
        *(*LOOKS, *SEARCHES, "claim", "fork", "records"),
        *("send", "receive", "wait_for_message", "find_unread", "find_message"),
        *("find_step", "find_nap", "find_children", "find_mail", "find_unsettled", "restart"),
    },
    ("workflows", "insert"): {"fork", *STARTS},
    ("workflows", "update"): {
        *("control", "fork", "send", "beat", *CLAIMED),
        *("adopt", "nudge", "settle"),
    },
    ("workflows", "createIndex"): {"init"},
    ("workflows", "changeStream"): set(),
    ("steps", "find"): {"find_step", "history", "records", "transact", "fork", "restart"},
    ("steps", "insert"): {"save_step", "transact", "receive"},
    ("steps", "createIndex"): {"init"},
    ("naps", "find"): {"find_nap", "history", "records", "fork"},
    ("naps", "insert"): {"save_nap", "save_attempt"},
    ("naps", "createIndex"): {"init"},
    ("messages", "find"): {"receive", "find_unread", "find_message"},
    ("messages", "insert"): {"send"},
    ("messages", "update"): {"receive", "restart"},
    ("messages", "createIndex"): {"init"},
    ("workers", "find"): {"find_workers"},
    ("workers", "insert"): {"register_worker"},
    ("workers", "update"): {"register_worker", "unregister_worker"},
    ("workers", "createIndex"): {"register_worker"},
}
"""What is refused to a worker without one action of its role, besides what is in any case."""


async def test_the_documented_role_of_a_worker_is_enough(
    guarded: Guarded, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "bluestreak_mongo.feed")
    async with restricted(guarded, documented("bluestreakWorker"), clock) as store:
        assert await refused_calls(guarded, store, clock) == {"prune"}
        await store.close()
        guarded.root.drop_database(DATABASE)
        await whole_life(store, clock)
    assert "change stream" not in caplog.text


@pytest.mark.parametrize(("collection", "action"), NEEDED)
async def test_no_action_of_a_workers_role_can_be_spared(
    guarded: Guarded, clock: ManualClock, collection: str, action: str
) -> None:
    role = documented("bluestreakWorker")
    assert sorted(NEEDED) == sorted(
        (name, allowed) for name, several in role.items() for allowed in several
    )
    less = {
        name: [allowed for allowed in several if (name, allowed) != (collection, action)]
        for name, several in role.items()
    }
    async with restricted(guarded, less, clock) as store:
        refused = await refused_calls(guarded, store, clock)
        assert refused - {"prune"} == NEEDED[collection, action]


async def test_without_the_privilege_to_look_at_collections_a_store_opens_and_says_so(
    guarded: Guarded, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "bluestreak_mongo.inspection")
    guarded.root[DATABASE].create_collection("workflows", capped=True, size=4096)
    async with restricted(guarded, documented("bluestreakWorker"), clock) as store:
        await store.init()
    (message,) = caplog.messages
    assert message.startswith("collections that are there already are not looked at: not auth")
    role = documented("bluestreakWorker") | {"": ["listCollections", "listIndexes"]}
    async with restricted(guarded, role, clock) as store:
        with pytest.raises(StoreRefused, match="'workflows' cannot be used: it is capped"):
            await store.init()


async def test_without_the_privilege_of_a_change_stream_workers_poll(
    guarded: Guarded, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "bluestreak_mongo.feed")
    role = documented("bluestreakWorker")
    role["workflows"].remove("changeStream")
    async with restricted(guarded, role, clock) as store:
        await whole_life(store, clock)
    without = "there is no change stream, polling instead: not authorized"
    assert caplog.text.count(without) == 1


async def test_the_documented_role_of_a_client_lets_it_start_and_wait_and_do_nothing_else(
    guarded: Guarded, clock: ManualClock
) -> None:
    async with restricted(guarded, documented("bluestreakClient"), clock) as store:
        writes = {"save_step", "save_nap", "save_attempt", "control", "fork", "prune", *CLAIMED}
        writes |= {"adopt", "nudge", "settle"}
        writes |= {"register_worker", "unregister_worker"}
        reads = {"history", "find_step", "find_nap", "records", "find_workers"}
        assert await refused_calls(guarded, store, clock) == writes | reads | MAIL
        worker = Bluestreak(MongoStore(guarded.url("ada"), database=DATABASE, clock=clock))
        client = Bluestreak(store)

        @worker.handler("h")
        async def handle(ctx: Context, input: int) -> int:
            return input

        async with client, worker:
            poll = asyncio.create_task(worker.poll())
            assert await client.start("w1", "h", 7)
            assert not await client.start("w1", "h", 8)
            assert await client.wait("w1") == 7
            worker.stop()
            await poll


async def test_a_client_that_is_given_what_the_documentation_says_may_send(
    guarded: Guarded, clock: ManualClock
) -> None:
    role = documented("bluestreakClient")
    (needs,) = re.findall(r"^\| \[`send`, .*\| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    for actions, collection in re.findall(r"((?:`\w+`(?:, | and )?)+) on `(\w+)`", needs):
        role[collection] += re.findall(r"`(\w+)`", actions)
    async with restricted(guarded, role, clock) as store:
        assert await refused_calls(guarded, store, clock, ["send"]) == set()
        await store.create(new("w3"))
        guarded.root[DATABASE].workflows.update_one(
            {"workflowId": "w3"}, {"$set": {"status": "finished"}}
        )
        with pytest.raises(WorkflowEnded):
            await store.send(message(workflow_id="w3"))


@pytest.mark.parametrize("may_delete", [False, True])
async def test_a_worker_that_is_given_what_the_documentation_says_deletes_at_a_restart(
    guarded: Guarded, clock: ManualClock, caplog: pytest.LogCaptureFixture, *, may_delete: bool
) -> None:
    caplog.set_level(logging.INFO, "bluestreak_mongo.leftovers")
    role = documented("bluestreakWorker")
    (needs,) = re.findall(r"^\| \[`ctx.restart`\].*\| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    assert needs == "`remove` on `steps` and `naps`"
    if may_delete:
        role["steps"].append("remove")
        role["naps"].append("remove")
    async with restricted(guarded, role, clock) as store:
        await store.init()
        claim = await claimed(store)
        await store.save_step(claim, "s", "old", NOW)
        await store.save_nap(claim, "n", NOW, NOW)
        await store.restart(claim, None, [], NOW)
        (again,) = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1))
        assert (await store.history([again]))["w"].steps == {}
    database = guarded.root[DATABASE]
    left = database.steps.count_documents({}) + database.naps.count_documents({})
    assert left == (0 if may_delete else 2)
    refused = [record for record in caplog.messages if "are deleted later: not auth" in record]
    assert len(refused) == (0 if may_delete else 2)


@pytest.mark.parametrize("role", ["bluestreakWorker", "bluestreakClient"])
async def test_a_documented_role_lets_nobody_delete(role: str) -> None:
    workers = {"workers"} if role == "bluestreakWorker" else set()
    assert documented(role).keys() == {"workflows", "steps", "naps", "messages"} | workers
    assert not {"remove", "dropCollection"} & set().union(*documented(role).values())


PRUNING: list[tuple[str, str]] = [
    *[("workflows", action) for action in ("find", "update", "remove", "createIndex")],
    *[
        (name, action)
        for name in ("steps", "naps", "messages")
        for action in ("find", "remove", "createIndex")
    ],
]
"""What the role of who prunes may do."""


async def test_the_documented_role_of_who_prunes_is_enough_and_starts_and_records_nothing(
    guarded: Guarded, clock: ManualClock
) -> None:
    async with restricted(guarded, documented("bluestreakPruner"), clock) as store:
        refused = await refused_calls(guarded, store, clock)
        assert {"create", "save_step", "save_nap"} <= refused
        assert not {"prune", "records", *SEARCHES} & refused


@pytest.mark.parametrize(("collection", "action"), PRUNING)
async def test_no_action_of_the_role_of_who_prunes_can_be_spared(
    guarded: Guarded, clock: ManualClock, collection: str, action: str
) -> None:
    role = documented("bluestreakPruner")
    assert sorted(PRUNING) == sorted(
        (name, allowed) for name, several in role.items() for allowed in several
    )
    role[collection].remove(action)
    async with restricted(guarded, role, clock) as store:
        assert await refused_calls(guarded, store, clock, ["prune"])


async def test_a_worker_that_has_the_role_of_who_prunes_too_may_let_workflows_expire(
    guarded: Guarded, clock: ManualClock
) -> None:
    worker, pruner = documented("bluestreakWorker"), documented("bluestreakPruner")
    both = {name: sorted({*worker[name], *pruner.get(name, ())}) for name in worker}
    async with restricted(guarded, both, clock) as store:
        assert await refused_calls(guarded, store, clock) == set()


# Encryption ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Encrypted:
    """A server that speaks TLS only, and files for those who connect to it."""

    url: str
    ca: Path
    other_ca: Path
    client: Path
    wants_certificates: bool


@pytest.fixture(scope="module", params=[False, True], ids=["", "client certificates"])
def encrypted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Encrypted]:
    folder = tmp_path_factory.mktemp("tls")
    paths = {name: folder / f"{name}.pem" for name in ("ca", "other_ca", "server", "client")}
    authority = trustme.CA()
    authority.cert_pem.write_to_path(paths["ca"])
    trustme.CA().cert_pem.write_to_path(paths["other_ca"])
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(paths["server"])
    authority.issue_cert("ada@h").private_key_and_cert_chain_pem.write_to_path(paths["client"])
    arguments = ["--tlsMode", "requireTLS", "--tlsCAFile", str(paths["ca"])]
    arguments += ["--tlsCertificateKeyFile", str(paths["server"])]
    if not request.param:
        arguments.append("--tlsAllowConnectionsWithoutCertificates")
    with LocalMongo(replica_set=False, authorization=False, arguments=arguments) as server:
        url = server.url + "&serverSelectionTimeoutMS=300"
        yield Encrypted(
            url=url,
            ca=paths["ca"],
            other_ca=paths["other_ca"],
            client=paths["client"],
            wants_certificates=request.param,
        )


async def test_a_server_is_trusted_by_its_authority(
    encrypted: Encrypted, clock: ManualClock
) -> None:
    url = f"{encrypted.url}&tls=true&tlsCAFile={encrypted.ca}"
    url += f"&tlsCertificateKeyFile={encrypted.client}"
    await whole_life(MongoStore(url.replace("TimeoutMS=300", "TimeoutMS=5000"), clock=clock), clock)


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("", "127.0.0.1"),  # whatever the driver says of a connection that ended
        ("&tls=true", "CERTIFICATE_VERIFY_FAILED"),
        ("&tls=true&tlsCAFile={other_ca}", "CERTIFICATE_VERIFY_FAILED"),
    ],
)
async def test_a_server_that_nobody_vouches_for_is_not_talked_to(
    encrypted: Encrypted, option: str, reason: str
) -> None:
    store = MongoStore(encrypted.url + option.format(other_ca=encrypted.other_ca))
    with pytest.raises(StoreUnavailable, match=reason):
        await store.init()


async def test_a_server_that_wants_a_certificate_gets_it_from_the_url(encrypted: Encrypted) -> None:
    store = MongoStore(f"{encrypted.url}&tls=true&tlsCAFile={encrypted.ca}")
    if not encrypted.wants_certificates:
        await store.init()
        await store.close()
        return
    with pytest.raises(StoreUnavailable):
        await store.init()
