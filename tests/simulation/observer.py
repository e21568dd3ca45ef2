"""The store as it really was: what was carried out, and whether it may have been."""

from __future__ import annotations

from tests.simulation.observer_control import Orders
from tests.simulation.observer_end import Ends
from tests.simulation.observer_mail import Mail
from tests.simulation.observer_run import Runs
from tests.simulation.observer_start import Starts


class Observer(Starts, Runs, Mail, Ends, Orders):
    """Stands right before the store, behind all faults.

    Each call is checked against the invariants as it is carried out, and noted in `timeline`.
    """
