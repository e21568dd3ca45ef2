"""The Codec protocol: between the values that a program uses and the values that stores hold."""

from __future__ import annotations

import dataclasses
from enum import Enum
from typing import Any, Protocol, get_args


class Codec(Protocol):
    """Converts values by the annotations of handlers and steps.

    The input of a handler is converted by the annotation of its second parameter; its result, and
    the output of a step, by the return annotation of the function. Values without an annotation are
    not converted. Every process that starts, runs or awaits a workflow needs an equivalent codec.

    `refusal` is asked for each handler, when it is registered, and for the type of each `Message`,
    when it is used, but never for steps. So `encode` and `decode` must pass through values of a
    type that the codec does not know: the store may hold them.
    """

    def refusal(self, annotation: Any) -> str | None:
        """Why values of this annotation cannot be converted; None if they can."""
        ...

    def encode(self, value: Any, annotation: Any, what: str) -> Any:
        """The value as it is to be stored. `decode` must turn it into an equal value.

        Raise `InvalidValue` for a value that does not fit; `what` names the value in the error.
        """
        ...

    def decode(self, value: Any, annotation: Any, what: str) -> Any:
        """The value of the annotated type for a stored one.

        Raise `InvalidValue` for a value that does not fit; `what` names the value in the error.
        """
        ...


class PlainCodec:
    """Converts nothing: values are the plain ones that every store holds, see `PlainRules`.

    Refuses handlers annotated with dataclasses, enums or pydantic models, since they would be
    called with dicts and strings.
    """

    def refusal(self, annotation: Any) -> str | None:
        """See `Codec.refusal`."""
        if _is_built(annotation):
            return (
                f"{annotation.__qualname__} is not a plain value; use codec=PydanticCodec(), "
                "from the extra 'pydantic'"
            )
        return next(filter(None, map(self.refusal, get_args(annotation))), None)

    def encode(self, value: Any, annotation: Any, what: str) -> Any:
        """The value itself."""
        return value

    def decode(self, value: Any, annotation: Any, what: str) -> Any:
        """The value itself."""
        return value


PLAIN = PlainCodec()


def _is_built(annotation: Any) -> bool:
    """Whether it is a class whose instances no store reads back as such."""
    return isinstance(annotation, type) and (
        dataclasses.is_dataclass(annotation)
        or issubclass(annotation, Enum)
        or hasattr(annotation, "__get_pydantic_core_schema__")
    )
