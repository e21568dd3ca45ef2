"""Between the values that a program uses and the values that stores hold."""

from __future__ import annotations

import dataclasses
from enum import Enum
from typing import Any, Protocol, get_args


class Codec(Protocol):
    """Converts values by the annotations of handlers and steps.

    A handler's input is converted by the annotation of its second parameter, its result and the
    output of a step by the annotation of what the function returns. What is not annotated is not
    converted. Every process that starts, runs or awaits a workflow needs a codec that agrees.

    No handler has an annotation that is refused, but a step may: what the codec knows nothing of,
    it leaves as it is, since the store may hold it.
    """

    def refusal(self, annotation: Any) -> str | None:
        """Why values of this annotation cannot be converted; None if they can."""
        ...

    def encode(self, value: Any, annotation: Any, what: str) -> Any:
        """A value as it is to be stored, which `decode` makes an equal value of.

        `what` names the value in errors. Raises `InvalidValue` for what does not fit.
        """
        ...

    def decode(self, value: Any, annotation: Any, what: str) -> Any:
        """A value of the annotated type, made of what was stored. Raises `InvalidValue`."""
        ...


class PlainCodec:
    """Values as they are: the plain ones that every store holds, see `PlainRules`.

    It refuses handlers that are annotated with dataclasses, enums or pydantic models, since none
    would ever get one.
    """

    def refusal(self, annotation: Any) -> str | None:
        """See `Codec.refusal`."""
        if _is_built(annotation):
            return (
                f"{annotation.__qualname__} is not a plain value: that needs "
                "codec=PydanticCodec(), of the extra 'pydantic'"
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
    """Whether it is a class whose instances a store would not give back."""
    return isinstance(annotation, type) and (
        dataclasses.is_dataclass(annotation)
        or issubclass(annotation, Enum)
        or hasattr(annotation, "__get_pydantic_core_schema__")
    )
