"""Branches of a handler: many at once, the first of several, and the same again and again.

`fan_out` is the engine behind `map` and `parallel`; `outcomes` and `race` are what they return.
"""

from bluestreak_core.run.structure.outcomes import BranchOutcome, BranchStatus, EndedBy, Outcomes
from bluestreak_core.run.structure.poll import Done
from bluestreak_core.run.structure.race import Winner

__all__ = ["BranchOutcome", "BranchStatus", "Done", "EndedBy", "Outcomes", "Winner"]
