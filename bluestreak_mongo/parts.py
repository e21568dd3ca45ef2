"""The parts that a MongoStore delegates to, all on one connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from bluestreak_core.adapter import ServerClock, Timekeeper
from bluestreak_core.clock import Clock
from bluestreak_core.store import Hints
from bluestreak_mongo.address import ADDRESS_FIELDS, Address
from bluestreak_mongo.beating import Beating
from bluestreak_mongo.bson_rules import BsonRules
from bluestreak_mongo.bulk import Groups
from bluestreak_mongo.compensating import Compensating
from bluestreak_mongo.control import Control
from bluestreak_mongo.database import Database
from bluestreak_mongo.ending import Endings
from bluestreak_mongo.feed import Feed
from bluestreak_mongo.finding import Finding
from bluestreak_mongo.forking import Forking
from bluestreak_mongo.history import Histories
from bluestreak_mongo.in_session import InSession
from bluestreak_mongo.leftovers import Leftovers
from bluestreak_mongo.listing import Listing
from bluestreak_mongo.pruning import Pruning
from bluestreak_mongo.publishing import Publishing
from bluestreak_mongo.receiving import Receiving
from bluestreak_mongo.recording import Recording
from bluestreak_mongo.registry import Registry
from bluestreak_mongo.relatives import Relatives
from bluestreak_mongo.renewal import Renewal
from bluestreak_mongo.restarting import Restarting
from bluestreak_mongo.sending import Sending
from bluestreak_mongo.shared_read import SharedRead
from bluestreak_mongo.standing import Standings
from bluestreak_mongo.starting import Starting
from bluestreak_mongo.transactions import Transactions
from bluestreak_mongo.unreadable import UnreadableDocuments
from bluestreak_mongo.waiting import Waiting
from bluestreak_mongo.work import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """One object for each thing that a store does, and what runs in the background.

    It has as many fields as a store has kinds of calls.
    """

    starting: Starting
    finding: Finding
    standings: Standings
    work: Work
    renewal: Renewal
    recording: Recording
    histories: Histories
    endings: Endings
    compensating: Compensating
    control: Control
    waiting: Waiting
    forking: Forking
    transactions: Transactions
    in_session: InSession
    sending: Sending
    receiving: Receiving
    beating: Beating
    relatives: Relatives
    publishing: Publishing
    registry: Registry
    restarting: Restarting
    listing: Listing
    pruning: Pruning
    feed: Feed
    timekeeper: Timekeeper | None

    @classmethod
    def of(cls, database: Database, clock: Clock, hints: Hints) -> Self:
        """The parts of a store in a database; nothing is sent to it yet."""
        rules, groups, unreadable = BsonRules(), Groups(database), UnreadableDocuments()
        leftovers = Leftovers(database)
        feed = Feed(database.tolerant_workflows, hints, clock)
        control, recording = Control(database, hints), Recording(database, groups, rules)
        endings = Endings(groups, rules, hints)

        def to_address(document: Mapping[str, Any]) -> Address:
            address = Address.read(document)
            feed.identify_for_mail(document)
            return address

        addresses = SharedRead(database.workflows, ADDRESS_FIELDS, to_address)
        timekeeper = None
        if isinstance(clock, ServerClock):
            timekeeper = Timekeeper(clock, database.server_time)
        return cls(
            starting=Starting(database, groups, rules, hints),
            finding=Finding(database),
            standings=Standings(database.workflows, feed),
            work=Work(
                database=database,
                unreadable=unreadable,
                feed=feed,
                hints=hints,
                clock=clock,
                timekeeper=timekeeper,
            ),
            renewal=Renewal(database, unreadable),
            recording=recording,
            histories=Histories(database, unreadable, leftovers),
            endings=endings,
            compensating=Compensating(database, endings, hints),
            control=control,
            waiting=Waiting(feed, hints, clock, control),
            forking=Forking(database, hints),
            transactions=Transactions(database, rules),
            in_session=InSession(database, rules, control),
            sending=Sending(database, groups, rules, hints, addresses),
            receiving=Receiving(
                database=database,
                groups=groups,
                recording=recording,
                addresses=addresses,
                feed=feed,
                hints=hints,
                clock=clock,
            ),
            beating=Beating(database),
            relatives=Relatives(database, groups, addresses, unreadable, hints),
            publishing=Publishing(database),
            registry=Registry(database, unreadable),
            restarting=Restarting(database, groups, rules, hints, leftovers),
            listing=Listing(database, unreadable),
            pruning=Pruning(database),
            feed=feed,
            timekeeper=timekeeper,
        )

    async def close(self) -> None:
        """End what runs in the background."""
        await self.feed.close()
        if self.timekeeper is not None:
            await self.timekeeper.close()
