"""Codecs: they convert values by their annotations to what is stored, and back.

Read `codec`, the protocol, then `annotation`, which finds annotations, then `conversion`, which
applies a codec to handlers and steps.
"""

from bluestreak_core.codec.annotation import ABSENT
from bluestreak_core.codec.codec import PLAIN, Codec, PlainCodec
from bluestreak_core.codec.conversion import Conversion

__all__ = ["ABSENT", "PLAIN", "Codec", "Conversion", "PlainCodec"]
