"""A client for synchronous code, such as the views of Flask and Django."""

from bluestreak_core.blocking.client import BlockingClient

__all__ = ["BlockingClient"]
