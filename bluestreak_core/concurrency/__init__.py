"""Waiting, waking, cancelling, and asking again: what the engine needs besides asyncio."""
