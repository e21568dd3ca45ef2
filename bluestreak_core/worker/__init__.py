"""A worker: it claims workflows, runs them, keeps their leases, and stops."""

from bluestreak_core.worker.health import WorkerHealth
from bluestreak_core.worker.stop import ShouldStop
from bluestreak_core.worker.worker import Worker

__all__ = ["ShouldStop", "Worker", "WorkerHealth"]
