"""Bluestreak's in-memory store, for unit tests: the state machine applied to dictionaries."""

from bluestreak_memory.session import MemorySession
from bluestreak_memory.store import MemoryStore

__all__ = ["MemorySession", "MemoryStore"]
