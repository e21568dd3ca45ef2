"""Applying a codec to the values of handlers and steps, by their annotations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bluestreak_core.argument import check_implements
from bluestreak_core.codec.annotation import ABSENT, Annotations, Unresolved, of_input, of_return
from bluestreak_core.codec.codec import Codec, PlainCodec
from bluestreak_core.errors import InvalidArgument, InvalidHandler

Function = Callable[..., Any]


class Conversion:
    """Converts inputs, outputs and results to what is stored, and back.

    A value without an annotation stays as it is. Each call raises `InvalidValue`, which names the
    value, if it does not fit.
    """

    def __init__(self, codec: Codec) -> None:
        check_implements("codec", codec, Codec)
        self._codec = codec
        self._inputs = Annotations(of_input)
        self._returns = Annotations(of_return)

    @property
    def or_none(self) -> Conversion | None:
        """None if the codec converts nothing, so that callers can skip each conversion."""
        return None if type(self._codec) is PlainCodec else self

    def check_handler(self, handler_id: str, handler: Function) -> None:
        """Raise `InvalidHandler` for annotations that cannot be resolved or converted."""
        for value, find in (("input", of_input), ("result", of_return)):
            try:
                annotation = find(handler)
            except Unresolved as error:
                if self.or_none is None:
                    continue
                reason = f"the annotation of its {value}: {error}"
                raise InvalidHandler(f"handler {handler_id!r}", handler, reason) from error
            refusal = None if annotation is ABSENT else self._codec.refusal(annotation)
            if refusal is not None:
                reason = f"the annotation of its {value}: {refusal}"
                raise InvalidHandler(f"handler {handler_id!r}", handler, reason)

    def stored_input(self, workflow_id: str, handler: Function, value: Any) -> Any:
        """An input as it is stored."""
        return self._encode(value, self._inputs.of(handler), f"input of workflow {workflow_id!r}")

    def input(self, workflow_id: str, handler: Function, stored: Any) -> Any:
        """An input as the handler gets it."""
        what = f"stored input of workflow {workflow_id!r}"
        return self._decode(stored, self._inputs.of(handler), what)

    def stored_result(self, workflow_id: str, handler: Function, value: Any) -> Any:
        """A handler's result as it is stored."""
        return self._encode(value, self._returns.of(handler), f"result of workflow {workflow_id!r}")

    def result(self, workflow_id: str, handler: Function, stored: Any) -> Any:
        """A result of the type that the handler returned."""
        what = f"stored result of workflow {workflow_id!r}"
        return self._decode(stored, self._returns.of(handler), what)

    def stored_output(self, workflow_id: str, step_id: str, fn: Function, value: Any) -> Any:
        """A step's output as it is stored."""
        return self.stored_as(workflow_id, step_id, self._returns.of(fn), value)

    def output(self, workflow_id: str, step_id: str, fn: Function, stored: Any) -> Any:
        """A step's output as the handler gets it, on the first run and in each replay."""
        return self.read_as(workflow_id, step_id, self._returns.of(fn), stored)

    def returned(self, fn: Function) -> Any:
        """The annotation of what a function returns; `ABSENT` for none."""
        return self._returns.of(fn)

    def stored_as(self, workflow_id: str, step_id: str, annotation: Any, value: Any) -> Any:
        """An output of a type of its own as it is stored; `ABSENT` leaves it alone."""
        return self._encode(
            value, annotation, f"output of step {step_id!r} of workflow {workflow_id!r}"
        )

    def read_as(self, workflow_id: str, step_id: str, annotation: Any, stored: Any) -> Any:
        """Such an output as the handler gets it."""
        return self._decode(
            stored, annotation, f"stored output of step {step_id!r} of workflow {workflow_id!r}"
        )

    def check_message(self, name: str, annotation: Any) -> None:
        """Raise `InvalidArgument` if payloads of this type cannot be converted."""
        if annotation is None or self.or_none is None:
            return
        refusal = self._codec.refusal(annotation)
        if refusal is not None:
            raise InvalidArgument(f"type of message {name!r}", annotation, refusal)

    def stored_payload(self, workflow_id: str, name: str, annotation: Any, value: Any) -> Any:
        """A message's payload as it is stored; an annotation of None leaves it alone.

        Raises like `check_message`.
        """
        self.check_message(name, annotation)
        what = f"payload of message {name!r} to workflow {workflow_id!r}"
        return value if annotation is None else self._encode(value, annotation, what)

    def payload(self, workflow_id: str, name: str, annotation: Any, stored: Any) -> Any:
        """A payload as the handler gets it; an annotation of None leaves it alone."""
        what = f"stored payload of message {name!r} to workflow {workflow_id!r}"
        return stored if annotation is None else self._decode(stored, annotation, what)

    def _encode(self, value: Any, annotation: Any, what: str) -> Any:
        return value if annotation is ABSENT else self._codec.encode(value, annotation, what)

    def _decode(self, value: Any, annotation: Any, what: str) -> Any:
        return value if annotation is ABSENT else self._codec.decode(value, annotation, what)
