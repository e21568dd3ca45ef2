"""What all documents have in common."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

Document = dict[str, Any]
Index = list[tuple[str, int]]

WORKFLOWS = "workflows"
STEPS = "steps"
NAPS = "naps"
MESSAGES = "messages"
WORKERS = "workers"

WORKFLOW_ID = "workflowId"

FIRST_DATE = datetime.min.replace(tzinfo=UTC)
"""The first date that Python has; bounds of an index can be made from it."""
