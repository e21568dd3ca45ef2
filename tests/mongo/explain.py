"""What the server has to do for a command, as it explains it."""

from __future__ import annotations

from typing import Any

from pymongo.database import Database

from tests.mongo.arrange import Document


def explained(raw: Database[Document], command: Document) -> Document:
    """What the server has to do for a command."""
    own = {"lsid", "txnNumber", "$clusterTime", "$db", "readConcern", "writeConcern"}
    bare = {field: value for field, value in command.items() if field not in own}
    explanation: Document = raw.command("explain", bare, verbosity="executionStats")
    return explanation


def stages(plan: Any) -> set[str]:
    """The names of all stages of a plan."""
    match plan:
        case dict():
            inner = set().union(*map(stages, plan.values()))
            return inner | ({plan["stage"]} if "stage" in plan else set())
        case list():
            return set().union(*map(stages, plan))
        case _:
            return set()
