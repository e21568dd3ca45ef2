"""worker --port: health, readiness and metrics."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bluestreak_cli.figures import figures_of, merged
from bluestreak_cli.port import Address, serving
from bluestreak_cli.standing import Report, Standing, judge_health, judge_readiness
from bluestreak_core import RunEnd, WorkerHealth, WorkerState
from tests.cli.arrange import SHOP, error_of, printed
from tests.cli.process import Log, worker

POLLING = Report(state=WorkerState.POLLING, is_ready=True, has_claimed=True)
FINE = Standing(name="worker 1", silence=0.5, report=POLLING)
ON_MONGO = "tests.cli.shop:on_mongo"
ADDRESS = re.compile(r"port: (http://127\.0\.0\.1:\d+) has ")


class Page:
    """What a port answers."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        self.text = text

    @property
    def processes(self) -> dict[str, str]:
        """What it says of each process."""
        found: dict[str, str] = json.loads(self.text)["processes"]
        return found

    @property
    def samples(self) -> dict[tuple[str, str], float]:
        """The sum of each metric, by its name and process."""
        sums: dict[tuple[str, str], float] = {}
        for family in text_string_to_metric_families(self.text):
            for sample in family.samples:
                key = (sample.name, sample.labels["process"])
                sums[key] = sums.get(key, 0) + sample.value
        return sums


def get(address: str, path: str) -> Page:
    try:
        with urlopen(f"{address}/{path}", timeout=30) as answer:  # noqa: S310 - it is ours
            return Page(answer.status, answer.read().decode())
    except HTTPError as error:
        with error:
            return Page(error.code, error.read().decode())


def get_until(address: str, path: str, condition: Callable[[Page], bool]) -> Page:
    """Ask until the answer is as wanted. The suite's timeout bounds it."""
    while not condition(page := get(address, path)):
        time.sleep(0.02)
    return page


def address_of(log: Log) -> str:
    """Where the port is, according to the log."""
    log.read_until(lambda said: any(map(ADDRESS.search, said)))
    (found,) = filter(None, map(ADDRESS.search, log.messages))
    return found[1]


# What is decided -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "healthy", "ready", "said"),
    [
        (FINE, True, True, "ready"),
        (Standing(name="w", starts=0), True, False, "starting, or stopped"),
        (Standing(name="w", silence=9), True, False, "starting, or stopped"),
        (Standing(name="w", silence=70), False, False, "no sign of life for 70 s"),
        (Standing(name="w", silence=70, report=POLLING), False, False, "no sign of life for 70 s"),
        (Standing(name="w", silence=20, report=POLLING), True, False, "no sign of life for 20 s"),
        (Standing(name="w", death="was killed by SIGKILL"), False, False, "was killed by SIGKILL"),
        (
            Standing(
                name="w",
                silence=0,
                report=Report(state=WorkerState.DRAINING, is_ready=True, has_claimed=True),
            ),
            *(True, False, "draining"),
        ),
        (
            Standing(
                name="w",
                silence=0,
                report=Report(state=WorkerState.POLLING, is_ready=False, has_claimed=True),
            ),
            *(True, False, "the database does not answer"),
        ),
        (
            Standing(
                name="w",
                silence=0,
                report=Report(state=WorkerState.POLLING, is_ready=False, has_claimed=False),
            ),
            *(True, False, "the database has not answered yet"),
        ),
        (
            Standing(
                name="w",
                silence=0,
                report=Report(state=WorkerState.STOPPED, is_ready=False, has_claimed=True),
            ),
            *(True, False, "starting, or stopped"),
        ),
    ],
)
def test_a_process_is_healthy_while_it_lives_and_ready_while_it_claims(
    one: Standing, healthy: bool, ready: bool, said: str
) -> None:
    assert judge_health([one], hung_after=60).ok is healthy
    verdict = judge_readiness([one], hung_after=60)
    assert (verdict.ok, verdict.processes) == (ready, {one.name: said})


def test_one_process_that_is_not_well_is_enough() -> None:
    dead = Standing(name="worker 2", death="ended with exit code 1")
    for judge, good in ((judge_health, "alive"), (judge_readiness, "ready")):
        verdict = judge([FINE, dead], 60)
        assert not verdict.ok
        assert verdict.processes == {"worker 1": good, "worker 2": "ended with exit code 1"}


def test_metrics_of_several_processes_are_told_apart_and_can_be_summed() -> None:
    texts = [
        (f"worker {number}", figures_of(health))
        for number, health in enumerate(
            [
                _health(claims=3, ends={RunEnd.FINISHED: 2}),
                _health(claims=4, ends={RunEnd.FAILED: 1}),
            ]
        )
    ]
    standings = [FINE, Standing(name="worker 2", starts=3, death="ended with exit code 1")]
    text = merged(texts, standings, 60)
    samples = Page(200, text).samples
    assert samples["bluestreak_worker_claims_total", "worker 0"] == 3
    assert samples["bluestreak_worker_claims_total", "worker 1"] == 4
    assert samples["bluestreak_worker_up", "worker 1"] == 1
    assert samples["bluestreak_worker_up", "worker 2"] == 0
    assert samples["bluestreak_worker_starts_total", "worker 2"] == 3
    assert 'ended_total{outcome="finished",process="worker 0"} 2.0' in text
    assert 'ended_total{outcome="failed",process="worker 1"} 1.0' in text
    types = [line for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(types) == len(set(types))


def test_each_way_in_which_a_run_ends_is_a_metric_from_the_start() -> None:
    text = figures_of(_health(claims=0, ends={}))
    for end in RunEnd:
        assert f'bluestreak_worker_runs_ended_total{{outcome="{end}"}} 0.0' in text
    assert "last_contact" not in text


def _health(**facts: Any) -> WorkerHealth:
    return WorkerHealth(
        state=WorkerState.POLLING, worker="w", runs=1, max_concurrency=7, is_ready=True, **facts
    )


class Shown:
    """What a port shows in this process."""

    def __init__(self, *known: Standing) -> None:
        self.known = known
        self.texts = [("worker 1", figures_of(_health(claims=3, ends={})))]

    def standings(self) -> Sequence[Standing]:
        return self.known

    def figures(self) -> Sequence[tuple[str, str]]:
        return self.texts


@contextmanager
def shown(watched: Shown, caplog: pytest.LogCaptureFixture) -> Iterator[str]:
    """A free port of this process; the log says which."""
    with (
        caplog.at_level(logging.INFO, "bluestreak_cli.port"),
        serving(Address(host="127.0.0.1", port=0, hung_after=60), watched),
    ):
        found = ADDRESS.search(caplog.text)
        assert found is not None
        yield found[1]


def test_a_port_answers_probes_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    watched = Shown(FINE)
    with shown(watched, caplog) as address:
        assert get(address, "readyz?verbose").status == 200
        watched.known = (FINE, Standing(name="worker 2", silence=0))
        assert get(address, "healthz").status == 200
        page = get(address, "readyz")
        assert page.status == 503
        assert page.processes == {"worker 1": "ready", "worker 2": "starting, or stopped"}
        assert get(address, "metrics").samples["bluestreak_worker_claims_total", "worker 1"] == 3
        page = get(address, "")
        assert page.status == 404
        assert "/healthz, /readyz, /metrics" in page.text
        with urlopen(Request(f"{address}/healthz", method="HEAD"), timeout=30) as answer:  # noqa: S310
            assert (answer.status, answer.read()) == (200, b"")
        with pytest.raises(HTTPError, match="501"):
            urlopen(Request(f"{address}/healthz", method="POST"), timeout=30)  # noqa: S310
        port = address.rpartition(":")[2]
        line = error_of("worker", SHOP, "--port", port, code=1)
        assert f"port {port} of 127.0.0.1 is in use; take another one" in line
    with pytest.raises(URLError):
        get(address, "healthz")


def test_a_request_that_goes_wrong_is_logged_and_harms_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watched = Shown(FINE)
    watched.texts = [("worker 1", "no metrics at all {")]
    with shown(watched, caplog) as address:
        with pytest.raises((URLError, ConnectionError, HTTPException)):
            get(address, "metrics")
        assert get(address, "healthz").status == 200
    assert "a request was not answered" in caplog.text


# One process ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("unmeasured")
def test_metrics_are_those_of_the_worker_of_its_application_and_of_telemetry(
    server: dict[str, str],
) -> None:
    printed("start", "w", "fulfil", "--app", ON_MONGO)
    with worker("tests.cli.shop:measured", "--port", "0", env=server) as log:
        address = address_of(log)
        printed("tail", "w", "--app", ON_MONGO)
        page = get_until(
            address, "metrics", lambda page: 'outcome="finished",process="worker"} 1.0' in page.text
        )
        samples = page.samples
        assert samples["bluestreak_worker_claims_total", "worker"] == 1
        assert samples["bluestreak_worker_slots", "worker"] == 100
        assert samples["bluestreak_workflow_claims_total", "worker"] == 1
        assert samples["bluestreak_step_duration_seconds_count", "worker"] == 2
        assert 'kites_total{exported_process="folding",process="worker"} 3.0' in page.text
        assert get(address, "healthz").processes == {"worker": "alive"}
        get_until(address, "readyz", lambda page: page.status == 200)
        assert get(address, "nothing").status == 404
        log.process.send_signal(signal.SIGTERM)
        log.read_rest()
        assert log.process.wait() == 0
        with pytest.raises(URLError):
            get(address, "healthz")
    assert log.others == []


@pytest.mark.usefixtures("unmeasured")
def test_a_process_whose_event_loop_is_blocked_is_not_healthy(
    server: dict[str, str], tmp_path: Path
) -> None:
    goal = tmp_path / "goal"
    printed("start", "w", "block", "--input", f'"{goal}"', "--app", ON_MONGO)
    with worker(ON_MONGO, "--port", "0", "--hung-after", "1s", env=server) as log:
        address = address_of(log)
        page = get_until(address, "healthz", lambda page: page.status == 503)
        assert page.processes["worker"].startswith("no sign of life for ")
        assert get(address, "metrics").samples["bluestreak_worker_runs", "worker"] == 1
        goal.touch()
        get_until(address, "healthz", lambda page: page.status == 200)


@pytest.mark.usefixtures("unmeasured")
def test_a_database_that_does_not_answer_is_a_matter_of_readiness_only(tmp_path: Path) -> None:
    silent = tmp_path / "silent"
    with worker("tests.cli.shop:sluggish", "--port", "0", env={"TEST_SILENT": str(silent)}) as log:
        address = address_of(log)
        get_until(address, "readyz", lambda page: page.status == 200)
        silent.touch()
        page = get_until(address, "readyz", lambda page: page.status == 503)
        assert page.processes == {"worker": "the database does not answer"}
        assert get(address, "healthz").status == 200


# A fleet -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_fleet_is_not_healthy_while_one_of_its_processes_hangs() -> None:
    with worker(SHOP, "--processes", "2", "--port", "0", "--hung-after", "1s") as log:
        address = address_of(log)
        log.read_until(lambda said: sum(line.endswith("is ready") for line in said) == 2)
        get_until(address, "readyz", lambda page: page.status == 200)
        both = {("bluestreak_worker_ready", name) for name in ("worker 1", "worker 2")}
        page = get_until(address, "metrics", lambda page: both <= page.samples.keys())
        assert all(page.samples[key] == 1 for key in both)
        assert page.samples["python_info", "worker 2"] == 1
        (hanging,) = log.pids("worker 2")
        os.kill(hanging, signal.SIGSTOP)
        page = get_until(address, "healthz", lambda page: "no sign" in page.processes["worker 2"])
        assert page.status == 503
        page = get(address, "metrics")  # what does not answer does not hold up the others
        assert page.samples["bluestreak_worker_up", "worker 2"] == 0
        assert ("bluestreak_worker_ready", "worker 2") not in page.samples
        os.kill(hanging, signal.SIGCONT)
        get_until(address, "healthz", lambda page: page.status == 200)
        log.process.send_signal(signal.SIGTERM)
        log.read_rest()
        assert log.process.wait() == 0
        with pytest.raises(URLError):
            get(address, "healthz")
    assert log.others == []


# Addresses -----------------------------------------------------------------------------------


def test_a_fleet_says_so_too_if_its_address_is_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        line = error_of("worker", SHOP, "--processes", "2", "--port", port, code=1)
    assert f"port {port} of 127.0.0.1 is in use" in line


def test_a_host_that_is_not_here_and_a_span_that_is_too_short_are_refused() -> None:
    line = error_of("worker", SHOP, "--port", "0", "--host", "192.0.2.1", code=1)
    assert "of 192.0.2.1 cannot be opened" in line
    assert "too short" in error_of("worker", SHOP, "--hung-after", "0.9s", code=2)
