"""A console for workflows, as an ASGI application to mount, or for `bluestreak console`."""

from bluestreak_core.adapter import needing

with needing("console", "starlette", "jinja2"):
    from bluestreak_console.access import Authorise, Visitor
    from bluestreak_console.application import app
    from bluestreak_console.local import local_app, new_key

__all__ = ["Authorise", "Visitor", "app", "local_app", "new_key"]
