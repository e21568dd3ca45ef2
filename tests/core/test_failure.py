from __future__ import annotations

import pytest

from bluestreak_core.run import failure


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_an_error_is_recorded_with_type_message_and_traceback() -> None:
    try:
        raise LookupError("no such order")
    except LookupError as error:
        record = failure.error_record(error)
    assert (record.type, record.message) == ("LookupError", "no such order")
    assert record.traceback.startswith("Traceback")
    assert "test_failure.py" in record.traceback


def test_a_type_is_named_with_its_module() -> None:
    assert failure.error_record(Unprintable()).type == f"{__name__}.Unprintable"


def test_an_error_that_cannot_be_printed_is_recorded_all_the_same() -> None:
    assert failure.error_record(Unprintable()).message == "(cannot be shown: RuntimeError)"


def test_an_exception_group_is_recorded_with_its_parts() -> None:
    record = failure.error_record(ExceptionGroup("both", [ValueError("one"), KeyError("two")]))
    assert "ValueError: one" in record.traceback
    assert "KeyError: 'two'" in record.traceback


def test_a_long_message_is_cut_in_the_middle() -> None:
    record = failure.error_record(ValueError("begin" + "x" * 10**6 + "end"))
    assert record.message.startswith("begin")
    assert record.message.endswith("end")
    assert len(record.message) < failure.MAX_MESSAGE + 100
    assert len(record.traceback) < failure.MAX_TRACEBACK + 100


def test_texts_are_cut_by_their_bytes() -> None:
    record = failure.error_record(ValueError("\U0001f426" * 10**5))
    assert len(record.message.encode()) < failure.MAX_MESSAGE + 100
    assert len(record.traceback.encode()) < failure.MAX_TRACEBACK + 100


def test_a_message_that_is_no_utf8_is_escaped() -> None:
    assert failure.error_record(ValueError("\ud800")).message == "\\ud800"


def test_not_even_an_error_that_exits_when_it_is_printed_gets_away() -> None:
    class Exiting(Exception):
        def __str__(self) -> str:
            raise SystemExit(3)

    assert failure.error_record(Exiting()).message == "(cannot be shown: SystemExit)"


def test_a_text_is_encoded_as_a_str_whatever_its_class_makes_of_it() -> None:
    class Text(str):
        __slots__ = ()

        def encode(self, *_: object) -> bytes:
            raise LookupError("no bytes")

    class Odd(Exception):
        def __str__(self) -> str:
            return Text("odd")

    assert failure.error_record(Odd()).message == "odd"


def test_a_class_without_a_name_is_recorded_all_the_same() -> None:
    class Nameless(type):
        def __getattribute__(cls, name: str) -> object:
            if name in ("__name__", "__qualname__", "__module__"):
                raise cls("no name")
            return super().__getattribute__(name)

    class Unnamed(Exception, metaclass=Nameless):
        pass

    assert failure.error_record(Unnamed()).type == "(cannot be shown: Unnamed)"


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (KeyError(0), "KeyError: 0"),
        (KeyError("0"), "KeyError: '0'"),
        (ValueError("no such card"), "ValueError: no such card"),
        (
            FileNotFoundError(2, "No such file", "a b"),
            "FileNotFoundError: [Errno 2] No such file: 'a b'",
        ),
        (ValueError(), "ValueError"),
        (ValueError("h\u00e9, \U0001f600"), "ValueError: h\u00e9, \U0001f600"),
        (ValueError("a\r\n\tb\x1b[31m\u2028\u202e"), r"ValueError: a\r\n\tb\x1b[31m\u2028\u202e"),
    ],
    ids=lambda value: repr(value) if isinstance(value, Exception) else "",
)
def test_an_error_is_logged_as_python_shows_it_in_one_line(error: Exception, shown: str) -> None:
    assert failure.in_one_line(failure.error_record(error)) == shown
