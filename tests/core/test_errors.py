from __future__ import annotations

import inspect
import pickle
from datetime import timedelta

import pytest

import bluestreak_core
from bluestreak_core import errors

FACTS: dict[str, object] = {
    "size": 7,
    "limit": 5,
    "retries": 3,
    "claim_number": 2,
    "crashes": 11,
    "max_crashes": 10,
}
FACTS |= {"names": ("paid", "refused")}
FACTS |= {"calls": ("ctx.step('s', ...)", "ctx.sleep('n', ...)")}
CONCRETE = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.BluestreakError) and kind.__init__ is not Exception.__init__
]


def _make(kind: type[errors.BluestreakError]) -> errors.BluestreakError:
    without = ("args", "timeout")  # which stands instead of others
    names = [name for name in inspect.signature(kind).parameters if name not in without]
    return kind(*(FACTS.get(name, f"the {name}") for name in names))


@pytest.mark.parametrize("kind", CONCRETE)
def test_every_error_belongs_to_one_family(kind: type[errors.BluestreakError]) -> None:
    families = (errors.UsageError, errors.StateError, errors.StoreError)
    assert sum(issubclass(kind, family) for family in families) == (
        kind is not errors.BluestreakError
    )


@pytest.mark.parametrize("kind", CONCRETE)
def test_every_error_survives_pickling(kind: type[errors.BluestreakError]) -> None:
    error = _make(kind)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (type(copy), str(copy), vars(copy)) == (kind, str(error), vars(error))


@pytest.mark.parametrize("kind", CONCRETE)
def test_every_message_names_its_facts(kind: type[errors.BluestreakError]) -> None:
    error = _make(kind)
    assert not str(error).endswith(".")
    for name, fact in vars(error).items():
        if name not in ("error_traceback", "value") and fact is not None:
            for item in fact if isinstance(fact, tuple) else (fact,):
                assert str(item) in str(error)


def test_a_wait_that_was_given_a_time_names_it() -> None:
    error = errors.WaitTimeout("w", "idle", timeout=timedelta(days=30))
    assert str(error) == "workflow 'w' was still 'idle' after 2592000 s"
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert vars(copy) == vars(error)


@pytest.mark.parametrize("kind", CONCRETE)
def test_every_error_is_public(kind: type[errors.BluestreakError]) -> None:
    assert getattr(bluestreak_core, kind.__name__) is kind
    assert kind.__name__ in bluestreak_core.__all__


def test_a_long_value_is_cut_in_a_message() -> None:
    message = str(errors.InvalidId("workflow id", "x" * 1000, "too long"))
    assert len(message) < 150
    assert "(1002 characters)" in message


@pytest.mark.parametrize(
    "error",
    [
        errors.CorruptDocument("workflows", "w\n", "st\natus", "is none of ours:\n\x1b[31m"),
        errors.WorkflowCancelled("w\n", "enough\nERROR all is lost \x1b[31m"),
    ],
)
def test_a_message_with_a_text_of_somebody_elses_is_one_line(error: Exception) -> None:
    assert str(error).isprintable()
