"""Messages as an application declares them, sends them and receives them."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from datetime import datetime
from types import UnionType
from typing import TYPE_CHECKING, Any, Generic, overload

from typing_extensions import TypeVar

from bluestreak_core.argument import check_id, has_real_type
from bluestreak_core.errors import InvalidArgument

if TYPE_CHECKING:
    from typing import _SpecialForm
P = TypeVar("P", default=Any)


@dataclass(frozen=True, slots=True)
class Message(Generic[P]):
    """The name of a message, and the type of its payload: `PAID = Message("paid", Payment)`.

    Declare it once, where those who send it and those who receive it can import it. With a codec,
    such as `PydanticCodec`, the payload is converted by its type; without a type, it stays as it
    is. Wherever a `Message` is asked for, its name will do.

    Type checkers know the payload of a class. For anything else, such as `int | None` or a
    `Literal`, annotate the constant: `AGE: Message[int | None] = Message("age", int | None)`.

    Raises `InvalidId`; and where it is first used `InvalidArgument`, if the codec cannot convert
    the type.
    """

    name: str
    type: Any = None

    if TYPE_CHECKING:
        # There is no type yet for "what an annotation says". The second overload takes its payload
        # from the declared type, and never matches a class, so that classes are still inferred.
        @overload
        def __init__(self, name: str, type: builtins.type[P]) -> None: ...

        @overload
        def __init__(self, name: str, type: UnionType | _SpecialForm | None = None) -> None: ...

        def __init__(self, name: str, type: Any = None) -> None: ...

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", check_id("name of a message", self.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Received(Generic[P]):
    """A message that a workflow has received, and the declaration or name that was asked for."""

    message: Message[P] | str
    payload: P
    sent_at: datetime
    message_id: str


def to_message(name: str, value: object) -> Message[Any]:
    """A declared message, or one of that name without a type; `name` names the argument."""
    if has_real_type(value, Message):
        return value
    if not has_real_type(value, str):
        raise InvalidArgument(name, value, "expected a Message or the name of one")
    return Message(check_id(name, value))
