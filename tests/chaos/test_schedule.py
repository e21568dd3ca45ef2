"""A seed says which faults there are, and when."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.chaos.schedule import AT_ONCE, Kind, schedule, tracks

LEASE = 2.0
SEEDS = range(20)


def test_a_seed_gives_the_same_faults_each_time_and_another_seed_gives_others() -> None:
    assert schedule(1, 120, LEASE) == schedule(1, 120, LEASE)
    assert schedule(1, 120, LEASE) != schedule(2, 120, LEASE)


def test_every_kind_belongs_to_one_track() -> None:
    kinds = [kind for track in tracks(LEASE) for kind in track.kinds]
    assert sorted(kinds) == sorted(Kind)


@pytest.mark.parametrize("seed", SEEDS)
def test_two_minutes_have_faults_of_every_kind(seed: int) -> None:
    faults = [fault for track in schedule(seed, 120, LEASE) for fault in track]
    assert {fault.kind for fault in faults} == set(Kind)


@pytest.mark.parametrize("seed", SEEDS)
def test_faults_of_a_track_do_not_overlap_and_are_healed_in_time(seed: int) -> None:
    for track in schedule(seed, 30, LEASE):
        assert all(fault.at + fault.lasting < following.at for fault, following in pairwise(track))
        assert track[-1].at + track[-1].lasting <= 30


@pytest.mark.parametrize("seed", SEEDS)
def test_a_worker_is_halted_for_longer_than_its_lease(seed: int) -> None:
    halts = [
        fault
        for track in schedule(seed, 120, LEASE)
        for fault in track
        if fault.kind is Kind.WORKER_HALTED
    ]
    assert halts
    assert all(fault.lasting > LEASE for fault in halts)


def test_what_is_done_at_once_does_not_last() -> None:
    for track in schedule(1, 120, LEASE):
        assert all((fault.lasting == 0) is (fault.kind in AT_ONCE) for fault in track)
