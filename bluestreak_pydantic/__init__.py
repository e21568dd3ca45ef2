"""Typed inputs, outputs and results: dataclasses, TypedDicts, enums and models, by pydantic."""

from bluestreak_core.adapter import needing

with needing("pydantic", "pydantic", "pydantic_core"):
    from bluestreak_pydantic.codec import PydanticCodec

__all__ = ["PydanticCodec"]
