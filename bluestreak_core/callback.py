"""What is handed over for a callback, and what comes back: a token, and an answer.

A token says where the answer belongs, and holds a secret: its text is all that an answer needs. The
store has only a hash of the secret, from which no token can be made.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Any, Self

from bluestreak_core.argument import check_id, has_real_type
from bluestreak_core.errors import InvalidArgument, InvalidToken
from bluestreak_core.machine import in_generation

_ANSWER = "callback/"
_SECRET_BYTES = 32
_WORKFLOW_ID = "workflow_id"
_SHA256 = "sha256"
_RECORD_ID = re.compile(r"/token/[1-9][0-9]*\Z")


def answer_name(step_id: str, generation: int) -> str:
    """The name, and the id, of the message that answers the callback of a step.

    A mailbox outlives a restart, so each generation of a workflow has answers of its own.
    """
    return f"{_ANSWER}{in_generation(step_id, generation)}"


def is_answer_name(name: str) -> bool:
    """Whether a name or an id of a message is kept for answers."""
    return name.startswith(_ANSWER)


def answered_step(name: str, generation: int) -> str | None:
    """The id of the step that an answer is for; None for the name of any other message."""
    if not is_answer_name(name):
        return None
    step_id = name.removeprefix(_ANSWER)
    return step_id.removesuffix(in_generation("", generation))


def record_id(step_id: str, number: int) -> str:
    """The id of the step that records a token."""
    return f"{step_id}/token/{number}"


def is_record(recorded_id: str, output: object) -> bool:
    """Whether a step has recorded a token."""
    fields = {_WORKFLOW_ID, _SHA256}
    is_token = isinstance(output, Mapping) and output.keys() == fields
    return is_token and _RECORD_ID.search(recorded_id) is not None


def is_made_for(workflow_id: str, record: object) -> bool:
    """Whether a record is that of a token of this workflow, and not of one that it is a fork of."""
    return isinstance(record, Mapping) and record.get(_WORKFLOW_ID) == workflow_id


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackToken:
    """A token in parts. Its `secret` is nowhere but in the text of the token."""

    workflow_id: str
    step_id: str
    number: int
    generation: int
    secret: str = field(repr=False)

    @classmethod
    def draw(cls, workflow_id: str, step_id: str, number: int, generation: int) -> Self:
        """A new token, with a secret of 256 random bits."""
        return cls(
            workflow_id=workflow_id,
            step_id=step_id,
            number=number,
            generation=generation,
            secret=secrets.token_urlsafe(_SECRET_BYTES),
        )

    @classmethod
    def read(cls, text: object) -> Self:
        """The token in a text. Raises `InvalidToken`, and `InvalidArgument` unless it is a str."""
        if not has_real_type(text, str):
            # Neither of these shows the text, which somebody may have mistyped only slightly.
            raise InvalidArgument("token", type(text).__name__, "expected a str")
        encoded, dot, secret = str.partition(text, ".")
        try:
            place = json.loads(urlsafe_b64decode(f"{encoded}=="))
            workflow_id, step_id, number, generation = place
            check_id("workflow id", workflow_id)
            check_id("step id", record_id(check_id("step id", step_id), number))
        except (ValueError, TypeError, RecursionError):
            raise InvalidToken from None
        are_numbers = type(number) is int and type(generation) is int  # and no bool
        if not (dot and secret.isascii() and are_numbers):
            raise InvalidToken
        return cls(
            workflow_id=workflow_id,
            step_id=step_id,
            number=number,
            generation=generation,
            secret=secret,
        )

    @property
    def text(self) -> str:
        """What is handed over. It may be part of a URL as it is."""
        place = [self.workflow_id, self.step_id, self.number, self.generation]
        encoded = urlsafe_b64encode(json.dumps(place, separators=(",", ":")).encode())
        return f"{encoded.decode().rstrip('=')}.{self.secret}"

    @property
    def answer_name(self) -> str:
        """The name, and the id, of the message that answers it."""
        return answer_name(self.step_id, self.generation)

    @property
    def record_id(self) -> str:
        """The id of the step that records it."""
        return record_id(self.step_id, self.number)

    @property
    def record(self) -> dict[str, str]:
        """What is recorded of it."""
        return {_WORKFLOW_ID: self.workflow_id, _SHA256: self._hash}

    def is_recorded_as(self, record: Any) -> bool:
        """Whether this is the token of a record."""
        stored = record.get(_SHA256) if is_made_for(self.workflow_id, record) else None
        return isinstance(stored, str) and hmac.compare_digest(stored.encode(), self._hash.encode())

    @property
    def _hash(self) -> str:
        return sha256(self.secret.encode()).hexdigest()


class Missing(StrEnum):
    """What has not come in time."""

    ANSWER = "answer"
    SIGN_OF_LIFE = "sign of life"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What ends a callback: a payload, an error, or that something was missing."""

    payload: Any = None
    error: str | None = None
    missing: Missing | None = None

    @classmethod
    def read(cls, stored: Any) -> Self:
        """The answer in the payload of a message."""
        match stored:
            case {"payload": payload, **others} if not others:
                return cls(payload=payload)
            case {"error": str(error), **others} if not others:
                return cls(error=error)
            case {"missing": "answer" | "sign of life" as missing, **others} if not others:
                return cls(missing=Missing(missing))
        return cls(payload=stored)

    @property
    def stored(self) -> dict[str, Any]:
        """The answer as the payload of a message."""
        if self.missing is not None:
            return {"missing": self.missing.value}
        return {"payload": self.payload} if self.error is None else {"error": self.error}
