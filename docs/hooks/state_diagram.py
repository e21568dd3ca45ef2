"""Draws the workflow state machine from its table, wherever a page asks for it.

`<!-- state diagram -->` becomes a Mermaid diagram and `<!-- state table -->` a table.
"""

from __future__ import annotations

from typing import Any

from bluestreak_core.machine import TRANSITIONS


def on_page_markdown(markdown: str, **_: Any) -> str:
    """MkDocs calls this for each page."""
    return markdown.replace("<!-- state diagram -->", diagram()).replace(
        "<!-- state table -->", table()
    )


def diagram() -> str:
    lines = ["[*] --> idle: start"]
    for status, row in TRANSITIONS.items():
        for target in dict.fromkeys(row.values()):
            events = ", ".join(event for event, to in row.items() if to is target)
            lines.append(f"{status} --> {target}: {events}")
        if status.ended:
            lines.append(f"{status} --> [*]")
    return "\n".join(["```mermaid", "stateDiagram-v2", *(f"    {line}" for line in lines), "```"])


def table() -> str:
    lines = ["| from | accepted |", "| --- | --- |"]
    for status, row in TRANSITIONS.items():
        arrows = [f"{event} → `{target}`" for event, target in row.items()]
        lines.append(f"| `{status}` | {', '.join(arrows) or 'nothing'} |")
    return "\n".join(lines)
