"""What converts values by their annotations, and what they are stored as."""

from bluestreak_core.codec.codec import PLAIN, Codec, PlainCodec
from bluestreak_core.codec.conversion import Conversion

__all__ = ["PLAIN", "Codec", "Conversion", "PlainCodec"]
