"""Metrics of workers, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from typing_extensions import override

from bluestreak_cli.standing import Standing, judge_health
from bluestreak_core import RunEnd, WorkerHealth

_PROCESS = "process"


def figures_of(health: WorkerHealth) -> str:
    """The metrics of this process: of its worker, and whatever its application has registered.

    That is what `prometheus_client` has in its default registry, where OpenTelemetry's reader for
    Prometheus puts its own.
    """
    return _text(lambda: _of_worker(health)) + generate_latest(REGISTRY).decode()


def merged(
    figures: Sequence[tuple[str, str]], standings: Sequence[Standing], hung_after: float
) -> str:
    """The metrics of several processes. The label `process` says whose a sample is.

    A sample that has such a label itself keeps it as `exported_process`.
    """

    def collect() -> Iterator[Metric]:
        yield from _of_processes(standings, hung_after)
        yield from _labelled(figures)

    return _text(collect)


class _Collected(Collector):
    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    @override
    def collect(self) -> Iterable[Metric]:
        return self._collect()


def _text(collect: Callable[[], Iterable[Metric]]) -> str:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(collect))
    return generate_latest(registry).decode()


def _of_worker(health: WorkerHealth) -> Iterator[Metric]:
    ready, runs, slots = health.is_ready, health.runs, health.max_concurrency
    yield _gauge("ready", "1 if it claims workflows and its database answers", ready)
    yield _gauge("runs", "Workflows that it holds", runs)
    yield _gauge("slots", "Workflows that it may hold at once", slots)
    failures = health.store_failures
    yield _gauge("store_failures", "Calls of the store that have failed in a row", failures)
    if health.last_contact_at is not None:
        answered_at = health.last_contact_at.timestamp()
        what = "When the store last answered a claim or a renewal"
        yield _gauge("last_contact_timestamp_seconds", what, answered_at)
    yield _counter("claims", "Workflows that it has claimed", health.claims)
    ended = CounterMetricFamily(
        "bluestreak_worker_runs_ended", "Runs that have ended, by how", labels=["outcome"]
    )
    for end in RunEnd:
        ended.add_metric([end.value], health.ends.get(end, 0))
    yield ended


def _of_processes(standings: Sequence[Standing], hung_after: float) -> Iterator[Metric]:
    up = GaugeMetricFamily(
        "bluestreak_worker_up", "1 if the process is alive, and not hung", labels=[_PROCESS]
    )
    starts = CounterMetricFamily(
        "bluestreak_worker_starts", "How often the process was started", labels=[_PROCESS]
    )
    for one in standings:
        is_up = one.silence is not None and judge_health([one], hung_after).ok
        up.add_metric([one.name], is_up)
        starts.add_metric([one.name], one.starts)
    yield from (up, starts)


def _labelled(figures: Sequence[tuple[str, str]]) -> Iterator[Metric]:
    families: dict[str, Metric] = {}
    for process, text in figures:
        for found in text_string_to_metric_families(text):
            family = families.setdefault(
                found.name, Metric(found.name, found.documentation, found.type)
            )
            family.samples.extend(_with_process(sample, process) for sample in found.samples)
    yield from families.values()


def _with_process(sample: Sample, process: str) -> Sample:
    labels = dict(sample.labels)
    if _PROCESS in labels:
        labels[f"exported_{_PROCESS}"] = labels.pop(_PROCESS)
    return sample._replace(labels={_PROCESS: process, **labels})


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(f"bluestreak_worker_{name}", what, value=float(value))


def _counter(name: str, what: str, value: float) -> Metric:
    return CounterMetricFamily(f"bluestreak_worker_{name}", what, value=float(value))
