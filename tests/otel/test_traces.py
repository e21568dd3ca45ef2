"""What a trace shows of a workflow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
)
from opentelemetry.trace import SpanKind, StatusCode
from typing_extensions import override

from bluestreak_core import Context, Retry, Start, Status
from bluestreak_core.testing import Environment
from bluestreak_memory import MemoryStore
from bluestreak_otel import TelemetryHook
from tests.otel.arrange import (
    Telemetry,
    attributes_of,
    greet,
    id_of,
    parent_of,
    refuse,
    traces_of,
)

Make = Callable[..., Environment]


async def napping(ctx: Context, input: None) -> str:
    await ctx.step("before", str, 1)
    await ctx.sleep("nap", 3600)
    return await ctx.step("after", str, 2)


async def nothing(*_: object) -> None:
    """Stands for what undoes a step, or writes to a database."""


def test_a_run_follows_from_its_start_and_has_its_steps_below_it(
    environment: Make, telemetry: Telemetry
) -> None:
    environment().run(greet, "Ada", workflow_id="w")
    start, run, step = telemetry.spans
    assert (start.name, run.name, step.name) == ("start greet", "run greet", "step greet")
    assert (start.kind, run.kind, step.kind) == (
        *(SpanKind.PRODUCER, SpanKind.CONSUMER),
        SpanKind.INTERNAL,
    )
    assert (parent_of(start), parent_of(run), parent_of(step)) == (None, id_of(start), id_of(run))
    assert attributes_of(step)["bluestreak.workflow.id"] == "w"
    assert attributes_of(run)["bluestreak.outcome"] == "finished"


def test_a_start_belongs_to_the_span_of_its_caller(environment: Make, telemetry: Telemetry) -> None:
    env = environment()
    env.register_handler("greet", greet)
    with telemetry.tracers.get_tracer("app").start_as_current_span("request"):
        env.start("w", "greet", "Ada")
    env.wait("w")
    assert parent_of(telemetry.span("start greet")) == id_of(telemetry.span("request"))
    assert len(traces_of(*telemetry.spans)) == 1


def test_a_start_is_over_when_the_next_one_begins(environment: Make, telemetry: Telemetry) -> None:
    env = environment()
    env.register_handler("greet", greet)

    async def start_two() -> None:
        await env.bluestreak.start("a", "greet", "A")
        await env.bluestreak.start("b", "greet", "B")

    env.call(start_two())
    assert [parent_of(span) for span in telemetry.spans] == [None, None]


def test_what_is_only_replayed_has_no_span(environment: Make, telemetry: Telemetry) -> None:
    environment().run(napping)
    assert telemetry.names == [
        *("start napping", "run napping", "step before", "nap nap"),
        *("run napping", "step after"),
    ]
    assert len(traces_of(*telemetry.spans)) == 1
    first, second = (span for span in telemetry.spans if span.name == "run napping")
    assert attributes_of(first)["bluestreak.replay"] is False
    assert attributes_of(second)["bluestreak.replay"] is True
    assert attributes_of(first)["bluestreak.outcome"] == "suspended"
    assert first.status.status_code is StatusCode.UNSET


def test_each_attempt_has_a_span_with_its_error(environment: Make, telemetry: Telemetry) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("pay", refuse, retry=Retry(max_attempts=2, initial=1))

    environment(max_failures=0).run(handle)
    attempts = [span for span in telemetry.spans if span.name == "step pay"]
    assert len(attempts) == 2
    assert [attributes_of(span)["bluestreak.attempt"] for span in attempts] == [1, 2]
    for span in attempts:
        assert span.status.status_code is StatusCode.ERROR
        assert attributes_of(span)["error.type"] == "ValueError"
        [event] = span.events
        assert (event.attributes or {})["exception.message"] == "broken for good"
    last_run = [span for span in telemetry.spans if span.name == "run handle"][-1]
    assert attributes_of(last_run)["error.type"] == "bluestreak_core.errors.StepFailed"


def test_a_branch_and_a_transaction_are_below_their_run(
    environment: Make, telemetry: Telemetry
) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await asyncio.gather(ctx.step("one", nothing), ctx.step("two", nothing))
        await ctx.transaction("write", nothing)

    environment().run(handle)
    run = telemetry.span("run handle")
    below = [span for span in telemetry.spans if parent_of(span) == id_of(run)]
    assert {span.name for span in below} == {"step one", "step two", "transaction write"}


def test_a_child_is_started_by_its_parent(environment: Make, telemetry: Telemetry) -> None:
    async def parent(ctx: Context, input: None) -> str:
        return await ctx.child("child", greet, "Ada")

    env = environment()
    env.register_handler("greet", greet)
    env.run(parent)
    parents = {id_of(span) for span in telemetry.spans if span.name == "run parent"}
    assert parent_of(telemetry.span("start greet")) in parents
    assert parent_of(telemetry.span("run greet")) == id_of(telemetry.span("start greet"))
    assert len(traces_of(*telemetry.spans)) == 1


def test_a_compensation_belongs_to_the_trace_and_its_replay_has_no_span(
    environment: Make, telemetry: Telemetry
) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.compensate("undo", nothing)
        await ctx.step("pay", refuse)

    assert environment(max_failures=0).run(handle).status is Status.ABORTED
    undo = telemetry.span("compensation undo")
    assert parent_of(undo) == id_of(telemetry.span("start handle"))
    assert telemetry.names.count("run handle") == 1


def test_a_restart_stays_in_the_trace(environment: Make, telemetry: Telemetry) -> None:
    async def handle(ctx: Context, left: int) -> None:
        if left:
            await ctx.restart(left - 1)

    environment().run(handle, 2)
    runs = [span for span in telemetry.spans if span.name == "run handle"]
    outcomes = [attributes_of(run)["bluestreak.outcome"] for run in runs]
    assert outcomes == ["suspended", "suspended", "finished"]
    assert len(traces_of(*telemetry.spans)) == 1


def test_many_starts_share_a_span(environment: Make, telemetry: Telemetry) -> None:
    env = environment()
    env.register_handler("greet", greet)
    env.call(env.bluestreak.start_many([Start("a", "greet", "A"), Start("b", "greet", "B")]))
    env.wait("a")
    env.wait("b")
    start = telemetry.span("start many")
    runs = [span for span in telemetry.spans if span.name == "run greet"]
    assert [parent_of(run) for run in runs] == [id_of(start)] * 2
    assert attributes_of(start)["bluestreak.created"] == 2


def test_a_repeated_start_says_that_it_created_nothing(
    environment: Make, telemetry: Telemetry
) -> None:
    env = environment()
    env.register_handler("greet", greet)
    assert env.start("w", "greet", "Ada")
    assert not env.start("w", "greet", "Ada")
    starts = [attributes_of(span)["bluestreak.created"] for span in telemetry.spans]
    assert starts == [1, 0]


def test_calls_of_the_store_have_spans_on_demand(environment: Make, telemetry: Telemetry) -> None:
    environment(store_calls=True).run(greet, "Ada")
    save = telemetry.span("save_step")
    assert save.kind is SpanKind.CLIENT
    assert parent_of(save) == id_of(telemetry.span("run greet"))
    assert parent_of(telemetry.span("create")) == id_of(telemetry.span("start greet"))
    assert "claim" not in telemetry.names  # it is above all traces


def test_steps_have_spans_if_their_start_is_sampled() -> None:
    """The sampler of the worker would take none; that of the start decides."""
    starting, working = Telemetry(), Telemetry(sampler=ParentBased(ALWAYS_OFF))
    with Environment(
        store=lambda clock: starting.store(MemoryStore(clock=clock)), hooks=[working.hook]
    ) as env:
        env.run(greet, "Ada")
    assert working.names == ["run greet", "step greet"]


def test_a_run_whose_start_is_not_sampled_has_no_spans() -> None:
    starting, working = Telemetry(sampler=ALWAYS_OFF), Telemetry()
    with Environment(
        store=lambda clock: starting.store(MemoryStore(clock=clock), store_calls=True),
        hooks=[working.hook],
    ) as env:
        assert env.run(greet, "Ada").status is Status.FINISHED
    assert (starting.names, working.names) == ([], [])
    assert working.points("bluestreak.step.duration")


class NoRuns(Sampler):
    """Takes all spans but those of runs, whatever is above them."""

    @override
    def should_sample(
        self,
        parent_context: Any,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        *_: Any,
        **__: Any,
    ) -> SamplingResult:
        is_run = kind is SpanKind.CONSUMER
        return SamplingResult(Decision.DROP if is_run else Decision.RECORD_AND_SAMPLE)

    @override
    def get_description(self) -> str:
        return "no runs"


def test_a_step_is_never_shown_without_its_run() -> None:
    telemetry = Telemetry(sampler=NoRuns())
    with Environment(
        store=lambda clock: telemetry.store(MemoryStore(clock=clock)), hooks=[telemetry.hook]
    ) as env:
        env.run(greet, "Ada")
    assert telemetry.names == ["start greet"]


def test_waits_have_spans_below_the_run_that_waits(environment: Make, telemetry: Telemetry) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.sleep("short", 1)
        await ctx.receive("answer", "message")
        await ctx.child("child", greet, "Ada")

    env = environment()
    env.register_handler("greet", greet)
    env.register_handler("handle", handle)
    env.start("w", "handle")
    env.call(env.bluestreak.send("w", "message", "secret"))
    env.wait("w")
    run = telemetry.span("run handle")
    waits = [span for span in telemetry.spans if "bluestreak.wait" in attributes_of(span)]
    assert [span.name for span in waits] == ["nap short", "receive answer", "child child"]
    assert {parent_of(span) for span in waits} == {id_of(run)}
    assert {attributes_of(span)["bluestreak.outcome"] for span in waits} == {"finished"}
    assert "secret" not in "".join(span.to_json() for span in telemetry.spans)


def test_a_wait_that_leaves_memory_is_suspended_and_says_until_when(
    environment: Make, telemetry: Telemetry
) -> None:
    environment().run(napping)
    nap = telemetry.span("nap nap")
    assert attributes_of(nap)["bluestreak.outcome"] == "suspended"
    assert attributes_of(nap)["bluestreak.nap.id"] == "nap"
    assert attributes_of(nap)["bluestreak.until"] == "2030-01-01T01:00:00+00:00"


def test_a_run_says_how_late_it_is(environment: Make, telemetry: Telemetry) -> None:
    async def slow(ctx: Context, input: None) -> None:
        await ctx.step("sleep", asyncio.sleep, 30)

    env = environment(max_concurrency=1)
    env.register_handler("slow", slow)
    env.start("first", "slow")
    env.start("second", "slow")
    env.wait("second")
    runs = [span for span in telemetry.spans if span.name == "run slow"]
    assert [attributes_of(run)["bluestreak.lateness"] for run in runs] == [0, 30]


def test_numbers_in_ids_are_left_out_of_the_names_of_spans(
    environment: Make, telemetry: Telemetry
) -> None:
    ids = ["s3-upload", "item/17", "charge 9f86d081-884c", "decade"]

    async def handle(ctx: Context, input: None) -> None:
        for step_id in ids:
            await ctx.step(step_id, nothing)

    environment().run(handle)
    steps = [span for span in telemetry.spans if span.name.startswith("step ")]
    names = ["step s*-upload", "step item/*", "step charge *-*", "step decade"]
    assert [span.name for span in steps] == names
    assert [attributes_of(span)["bluestreak.step.id"] for span in steps] == ids


class Unprintable(Exception):
    """Raises when its message is asked for."""

    def __str__(self) -> str:
        raise RuntimeError("it has no message")


def test_a_span_ends_even_if_its_error_cannot_be_printed(
    environment: Make, telemetry: Telemetry
) -> None:
    async def handle(ctx: Context, input: None) -> None:
        raise Unprintable

    environment(max_failures=0).run(handle)
    assert str(attributes_of(telemetry.span("run handle"))["error.type"]).endswith("Unprintable")


def test_messages_of_errors_can_be_left_out(telemetry: Telemetry) -> None:
    hook = TelemetryHook(error_messages=False, tracer_provider=telemetry.tracers)

    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("pay", refuse)

    with Environment(hooks=[hook], max_failures=0) as env:
        env.run(handle)
    step = telemetry.span("step pay")
    assert (step.status.status_code, step.status.description) == (StatusCode.ERROR, "ValueError")
    assert "broken for good" not in "".join(span.to_json() for span in telemetry.spans)
