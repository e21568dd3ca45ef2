"""What a handler receives: the verbs of a workflow, in groups by subject."""

from bluestreak_core.run.context.context import Context

__all__ = ["Context"]
