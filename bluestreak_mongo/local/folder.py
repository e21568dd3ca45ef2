"""The folder in which a `LocalMongo` keeps its data."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from bluestreak_core.errors import InvalidArgument

_RECORD = "bluestreak.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What the data of a folder is of; `key` is its secret, even where it is not asked for."""

    members: int
    replica_set: bool
    key: str


def new_key() -> str:
    """A secret for the members of a set, and for its user."""
    return secrets.token_hex(32)


def check_folder(path: object) -> Path | None:
    """The path of a folder, or None for none."""
    if path is None:
        return None
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise InvalidArgument("data", path, "expected the path of a folder")
    return Path(text).absolute()


def open_folder(path: Path, members: int, *, replica_set: bool) -> Deployment:
    """What the folder holds; it is made, and closed to other users, if there is none.

    Raises `InvalidArgument` if it holds something else.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = sorted(entry.name for entry in path.iterdir())
        if found and _RECORD not in found:
            raise InvalidArgument("data", str(path), "the folder holds something else")
        path.chmod(0o700)
        if not found:
            _write(
                path / _RECORD,
                Deployment(members=members, replica_set=replica_set, key=new_key()),
            )
        kept = Deployment(**json.loads((path / _RECORD).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise InvalidArgument("data", str(path), f"it cannot be used: {error}") from error
    if (kept.members, kept.replica_set) != (members, replica_set):
        what = f"a replica set of {kept.members}" if kept.replica_set else "a standalone server"
        raise InvalidArgument("data", str(path), f"the folder holds {what}")
    return kept


def member_folder(path: Path, place: int) -> Path:
    """Where a member keeps its data."""
    folder = path / f"member-{place}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _write(record: Path, deployment: Deployment) -> None:
    record.touch(mode=0o600)
    record.write_text(json.dumps(asdict(deployment)))
