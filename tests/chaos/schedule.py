"""Which faults happen when: drawn from a seed, before anything begins."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """A fault. Each text says what is done."""

    WORKER_KILLED = "worker killed (SIGKILL)"
    WORKER_HALTED = "worker halted past its lease (SIGSTOP, SIGCONT)"
    WORKER_STOPPED = "worker told to stop (SIGTERM)"
    LOOP_BLOCKED = "event loop of a worker blocked"

    PRIMARY_KILLED = "primary killed (SIGKILL) and restarted"
    PRIMARY_STEPPED_DOWN = "primary stepped down"
    PRIMARY_HALTED = "primary halted (SIGSTOP, SIGCONT)"
    PRIMARY_CUT_OFF = "primary partitioned away, connections broken"
    PRIMARY_UNHEARD = "primary partitioned away, packets dropped"
    SET_SPLIT = "primary partitioned away together with a worker"

    CONNECTIONS_DROPPED = "all connections to the primary dropped"
    CONNECTIONS_FROZEN = "connections of a worker frozen, never to be thawed"
    ANSWERS_LOST = "answers of the primary lost"
    COMMANDS_FAILED = "commands failed (failCommand)"
    CONNECTIONS_CLOSED = "connections closed by the server (failCommand)"
    WRITES_UNCONFIRMED = "write-concern errors (failCommand)"


WORKERS = frozenset(
    {Kind.WORKER_KILLED, Kind.WORKER_HALTED, Kind.WORKER_STOPPED, Kind.LOOP_BLOCKED}
)
"""What is done to a worker, whatever the servers are doing."""

AT_ONCE = frozenset(
    {
        Kind.WORKER_KILLED,
        Kind.WORKER_STOPPED,
        Kind.LOOP_BLOCKED,
        Kind.PRIMARY_STEPPED_DOWN,
        Kind.CONNECTIONS_DROPPED,
        Kind.CONNECTIONS_FROZEN,
        Kind.ANSWERS_LOST,
    }
)
"""What is done in an instant, though its effects take longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """`at` and `lasting` are seconds; `choice` picks among what can be hit."""

    at: float
    kind: Kind
    lasting: float
    choice: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """Faults that happen one after the other; those of other tracks happen meanwhile.

    `pause` is between the end of a fault and the next, and `lasting` how long one is, if it is not
    over at once: both from a range of seconds.
    """

    kinds: tuple[Kind, ...]
    pause: tuple[float, float]
    lasting: tuple[float, float]


def tracks(lease: float) -> tuple[Track, ...]:
    return (
        Track(
            kinds=(
                Kind.WORKER_KILLED,
                Kind.WORKER_HALTED,
                Kind.WORKER_STOPPED,
                Kind.LOOP_BLOCKED,
            ),
            pause=(0.5, 2.5),
            lasting=(1.2 * lease, 2 * lease),
        ),
        Track(
            kinds=(
                Kind.PRIMARY_KILLED,
                Kind.PRIMARY_CUT_OFF,
                Kind.PRIMARY_STEPPED_DOWN,
                Kind.PRIMARY_UNHEARD,
                Kind.SET_SPLIT,
                Kind.PRIMARY_HALTED,
            ),
            pause=(4, 7),
            lasting=(2, 5),
        ),
        Track(
            kinds=(
                Kind.CONNECTIONS_DROPPED,
                Kind.WRITES_UNCONFIRMED,
                Kind.COMMANDS_FAILED,
                Kind.ANSWERS_LOST,
                Kind.CONNECTIONS_FROZEN,
                Kind.CONNECTIONS_CLOSED,
            ),
            pause=(1.5, 4),
            lasting=(0.1, 0.8),
        ),
    )


def schedule(seed: int, seconds: float, lease: float) -> list[list[Fault]]:
    """The faults of each track. No kind comes again before all of its track have come."""
    return [
        list(_faults(track, random.Random(f"{seed}/{place}"), seconds))
        for place, track in enumerate(tracks(lease))
    ]


def _faults(track: Track, chance: random.Random, seconds: float) -> Iterator[Fault]:
    at = chance.uniform(0.5, 1.5)
    for kind in _shuffled(track.kinds, chance):
        lasting = 0 if kind in AT_ONCE else chance.uniform(*track.lasting)
        if at + lasting > seconds:
            return
        yield Fault(at=at, kind=kind, lasting=lasting, choice=chance.random())
        at += lasting + chance.uniform(*track.pause)


def _shuffled(kinds: tuple[Kind, ...], chance: random.Random) -> Iterator[Kind]:
    """All kinds in some order, then all of them in another, without an end."""
    for _ in itertools.count():
        yield from chance.sample(kinds, len(kinds))
