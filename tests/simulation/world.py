"""One simulation: a fleet on a store in memory, in virtual time, as a scenario has it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from unittest.mock import patch

from bluestreak_core import Bluestreak, StoreUnavailable, Workflow, callback, retry
from bluestreak_core.concurrency import first_of, outage, wait_ended
from bluestreak_core.testing.virtual.time import NothingLeftToHappen, TooManyTurns
from bluestreak_core.worker import claiming, expiry, relatives
from tests.simulation import (
    child_invariant,
    compensation_invariant,
    lasting_invariant,
    mail_invariant,
)
from tests.simulation import fleet_invariant as invariant
from tests.simulation.client import Clients
from tests.simulation.handler import Handler
from tests.simulation.observation import ALL
from tests.simulation.scenario import AMID_WITHIN, CHAOS, Action, Scenario, families
from tests.simulation.setting import Setting
from tests.simulation.worker import Worker

_TIME_TO_END = 1500.0
"""Seconds after the chaos by which everything must have come to its end."""

_LOOK_AGAIN = 5.0
"""Seconds between two looks at what has not ended."""

_TIME_TO_LEAVE = 100.0
"""Seconds in which runs that have lost their claims must have left their slots."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was violated in a simulation, if anything, and what has happened in it."""

    scenario: Scenario
    violations: list[str]
    timeline: list[str]


def simulate(scenario: Scenario) -> Verdict:
    """Run a scenario to its end, and check what must hold."""
    with _quiet(), _chance_of_the_engine(scenario.chance):
        setting = Setting(scenario)
        try:
            _World(setting).run()
        finally:
            setting.close()
    record = setting.record
    return Verdict(scenario=scenario, violations=record.violations, timeline=record.timeline)


@contextmanager
def _quiet() -> Iterator[None]:
    logging.disable()
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


@contextmanager
def _chance_of_the_engine(seed: int) -> Iterator[None]:
    """Where the engine leaves something to chance, that comes from a seed.

    Not by seeding `random` itself, which any thread of this process may ask for a number.
    """
    chance = random.Random(seed)
    with ExitStack() as undo:
        for module in (outage, expiry, relatives, retry, claiming):
            undo.enter_context(patch.object(module, "random", chance))
        undo.enter_context(patch.object(callback, "secrets", _Secrets(chance)))
        yield


class _Secrets:
    """Secrets that come from a seed."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def token_urlsafe(self, size: int) -> str:
        """A text that has nothing but what a URL may have."""
        return self._chance.randbytes(size).hex()


class _World:
    """Everything that happens in a simulation."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._record = setting.record
        self._clients = Clients(setting)
        handler, scenario = Handler(setting.record, setting.memory), setting.scenario
        self._workers = [Worker(setting, handler, n) for n in range(len(scenario.skews))]
        plans = self._record.plans
        for start in scenario.starts:
            plans.update(dict.fromkeys(start.workflow_ids, start.operations))
        for fork in scenario.forks:
            plans[fork.new_id] = plans.get(fork.workflow_id, ())
        for workflow_id, plan in list(plans.items()):
            for _, child_id, operation in families(workflow_id, plan):
                plans[child_id] = operation.plan

    def run(self) -> None:
        """Let all of it happen."""
        try:
            self._setting.loop.run_until_complete(self._happen())
        except (NothingLeftToHappen, TooManyTurns) as stuck:
            self._record.violated(f"it came to no end: {type(stuck).__name__}")

    async def _happen(self) -> None:
        scenario, clients = self._setting.scenario, self._clients
        for worker in self._workers:
            worker.begin()
        everything = asyncio.gather(
            *(clients.start(start) for start in scenario.starts for _ in range(start.copies)),
            *(self._act(action) for action in scenario.actions),
            *(clients.give(order) for order in scenario.orders),
            *(clients.fork(fork) for fork in scenario.forks),
            *(
                clients.send(sender, copy)
                for sender in scenario.senders
                for copy in range(sender.copies)
            ),
            self._heal(),
            clients.release(),
        )
        answering = asyncio.create_task(clients.answer_all())
        try:
            async with asyncio.timeout(CHAOS + _TIME_TO_END):
                await everything
                await self._until_families_have_ended()
        except TimeoutError:
            self._record.violated("not everything came to its end")
        await asyncio.sleep(_TIME_TO_LEAVE)
        answering.cancel()
        await wait_ended(answering)
        for worker in self._workers:
            await worker.end()
        await self._audit()
        await self._prune()

    async def _until_families_have_ended(self) -> None:
        """Wait for the children that nobody waits for, until all ends are settled."""
        record = self._record
        while True:
            found = [
                await self._setting.memory.find_workflow(workflow_id)
                for workflow_id in sorted(record.created)
            ]
            left = [each for each in found if each and (each.unsettled or not each.status.ended)]
            if not left:
                return
            await asyncio.sleep(_LOOK_AGAIN)

    async def _act(self, action: Action) -> None:
        await asyncio.sleep(action.at)
        worker = self._workers[action.worker]
        if action.amid is not None and worker.network is not None:
            sent = worker.network.sent[action.amid].wait()
            await first_of(sent, asyncio.sleep(AMID_WITHIN))
        self._record.note(f"{action.deed} worker {action.worker}")
        await worker.undergo(action)

    async def _heal(self) -> None:
        await asyncio.sleep(CHAOS)
        self._record.note("healed")
        self._setting.fault_rate = 0.0

    async def _audit(self) -> None:
        """Check what is left at the end."""
        record = self._record
        for workflow_id in sorted(record.accepted):
            workflow = await self._setting.observer.find_workflow(workflow_id)
            invariant.accepted_workflows_end(record, workflow_id, workflow)
            if workflow is not None:
                invariant.cancellations_are_rolled_back(record, workflow)
                invariant.deadlines_are_met(record, workflow)
                invariant.expiry_comes_in_time(record, workflow)
                await self._audit_family(workflow)
                compensation_invariant.compensations_are_recorded(record, workflow)
                compensation_invariant.finished_workflows_are_not_compensated(record, workflow)
                lasting_invariant.published_values_are_written(record, workflow)
            await self._audit_mail(workflow_id)
        invariant.transactions_are_done_once(record)
        invariant.undisturbed_steps_are_called_once(record)
        invariant.nothing_due_is_claimed_late(record)

    async def _audit_family(self, workflow: Workflow) -> None:
        record, observer = self._record, self._setting.observer
        child_invariant.ends_are_settled(record, workflow)
        if workflow.parent is not None:
            parent = await observer.find_workflow(workflow.parent.workflow_id)
            child_invariant.children_do_not_outlive_their_parent(record, workflow, parent)

    async def _audit_mail(self, workflow_id: str) -> None:
        memory = self._setting.memory
        if workflow_id in self._record.expired:
            return
        unread = await memory.find_unread(workflow_id, ALL)
        steps = (await memory.records(workflow_id)).steps
        mail_invariant.acknowledged_messages_are_kept(self._record, workflow_id, unread, steps)
        mail_invariant.messages_are_recorded_once(self._record, workflow_id, unread, steps)
        mail_invariant.unsent_messages_do_not_arrive(self._record, workflow_id, unread, steps)

    async def _prune(self) -> None:
        """Prune, however often a call fails, and check what is left."""
        record, observer = self._record, self._setting.observer
        before = {
            workflow_id: await observer.find_workflow(workflow_id) for workflow_id in record.created
        }
        self._setting.fault_rate = self._setting.scenario.fault_rate
        record.kept_for = timedelta(0)
        engine = Bluestreak(self._setting.network())
        await engine.init()
        while True:
            with suppress(StoreUnavailable):
                await engine.prune(ended_before=self._setting.clock.now())
                break
        left = {workflow_id: await observer.find_workflow(workflow_id) for workflow_id in before}
        invariant.pruning_takes_what_has_ended(record, before, left)
        for workflow_id in sorted(left):
            if left[workflow_id] is None:
                mail = list(await observer.find_unread(workflow_id, ALL))
                invariant.pruning_leaves_no_record(record, workflow_id, "mail", mail or None)
        for workflow_id, what in record.outputs:
            if await observer.find_workflow(workflow_id) is None:
                kind, _, record_id = what.partition(" ")
                find = observer.find_nap if kind == "nap" else observer.find_step
                found = await find(workflow_id, record_id)
                invariant.pruning_leaves_no_record(record, workflow_id, what, found)
