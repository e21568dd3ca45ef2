"""Draws the workflow state machine from its table, wherever a page asks for it.

`<!-- state diagram -->` becomes an inline SVG and `<!-- state table -->` a table. The places of
boxes and lines are chosen by hand below; which of them there are is up to the table. An arrow of
the table that has no line here, or a line that is no arrow of the table, breaks the build.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from bluestreak_core.machine import TRANSITIONS, Transition
from bluestreak_core.model import Status


class Box(NamedTuple):
    """The place and the colour of a state."""

    x: int
    y: int
    width: int
    height: int
    colour: str


class Line(NamedTuple):
    """The way of an arrow, and the place of its label; an arrow that joins another has none."""

    path: str
    label: tuple[int, int, str] | None


GREY, BLUE, PURPLE, GREEN, ORANGE = (
    "#7d8590",
    "#3b82f6",
    "#a855f7",
    "#10a36e",
    "#d97706",
)

BOXES = {
    Status.IDLE: Box(24, 84, 72, 42, BLUE),
    Status.FAILED: Box(24, 186, 72, 42, BLUE),
    Status.RUNNING: Box(184, 84, 70, 144, BLUE),
    Status.PAUSED: Box(24, 310, 72, 42, PURPLE),
    Status.FINISHED: Box(320, 84, 84, 42, GREEN),
    Status.ABORTED: Box(320, 186, 84, 42, ORANGE),
    Status.CANCELLED: Box(320, 310, 84, 42, ORANGE),
    Status.STOPPING: Box(74, 440, 84, 42, PURPLE),
    Status.COMPENSATING: Box(250, 440, 120, 42, BLUE),
}

FRAMED = (Status.IDLE, Status.FAILED, Status.RUNNING)
"""An event that all of these accept is drawn once, from the frame around them."""

ALL_FRAMED = " ".join(FRAMED)

FRAME = Box(14, 46, 250, 196, GREY)

LINES = {
    (Status.IDLE, Status.RUNNING): Line("M96 96H182", (139, 91, "middle")),
    (Status.RUNNING, Status.IDLE): Line("M184 114H98", (140, 129, "middle")),
    (Status.FAILED, Status.RUNNING): Line("M96 198H182", (139, 193, "middle")),
    (Status.RUNNING, Status.FAILED): Line("M184 216H98", (140, 231, "middle")),
    (Status.IDLE, Status.IDLE): Line("M40 126V142H66V128", (53, 156, "middle")),
    (Status.RUNNING, Status.RUNNING): Line("M206 84V68H232V82", (219, 63, "middle")),
    (Status.RUNNING, Status.FINISHED): Line("M254 105H318", (290, 100, "middle")),
    (Status.RUNNING, Status.ABORTED): Line("M254 207H318", (290, 202, "middle")),
    (ALL_FRAMED, Status.PAUSED): Line("M74 242V308", (80, 281, "start")),
    (Status.PAUSED, Status.PAUSED): Line("M40 352V368H66V354", (53, 382, "middle")),
    (Status.PAUSED, Status.IDLE): Line("M24 331H6V105H22", (12, 281, "start")),
    (ALL_FRAMED, Status.CANCELLED): Line("M219 242V320H318", (226, 281, "start")),
    (Status.PAUSED, Status.CANCELLED): Line("M96 342H318", (148, 337, "middle")),
    (Status.ABORTED, Status.IDLE): Line("M404 207H412", None),
    (Status.CANCELLED, Status.IDLE): Line("M404 331H412V24H74V82", (290, 18, "middle")),
    (ALL_FRAMED, Status.STOPPING): Line("M120 242V438", (126, 300, "start")),
    (Status.PAUSED, Status.STOPPING): Line("M84 352V438", (90, 402, "start")),
    (Status.RUNNING, Status.STOPPING): Line("M194 228V412H142V438", (200, 400, "start")),
    (Status.STOPPING, Status.COMPENSATING): Line("M158 453H248", (203, 448, "middle")),
    (Status.COMPENSATING, Status.STOPPING): Line("M250 470H160", (205, 486, "middle")),
    (Status.COMPENSATING, Status.COMPENSATING): Line("M290 482V498H326V484", (308, 513, "middle")),
    (Status.COMPENSATING, Status.ABORTED): Line("M370 461H432V196H406", (438, 290, "start")),
    (Status.COMPENSATING, Status.CANCELLED): Line("M340 440V354", (334, 400, "end")),
}

HEAD = f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 520 520" font-family="system-ui, sans-serif" \
font-size="14" fill="{GREY}" role="img" aria-labelledby="state-diagram-title">
<title id="state-diagram-title">The states of a workflow, and the events that lead from one to \
another; the table below says the same</title>
<defs><marker id="state-diagram-tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" \
markerHeight="7" orient="auto"><path d="M0 0L10 5L0 10z" fill="{GREY}"/></marker></defs>
"""

TIP = ' marker-end="url(#state-diagram-tip)"'


def on_page_markdown(markdown: str, **_: Any) -> str:
    """MkDocs calls this for each page."""
    return markdown.replace("<!-- state diagram -->", diagram()).replace(
        "<!-- state table -->", table()
    )


def arrows() -> dict[tuple[str, str], list[Transition]]:
    """The events of each arrow, by where it comes from and leads to."""
    found: dict[tuple[str, str], list[Transition]] = {}
    for source, row in TRANSITIONS.items():
        for event, target in row.items():
            shared = all(TRANSITIONS[status].get(event) is target for status in FRAMED)
            framed = source in FRAMED and target not in FRAMED and shared
            events = found.setdefault((ALL_FRAMED if framed else source, target), [])
            if event not in events:
                events.append(event)
    return found


def diagram() -> str:
    drawn = arrows()
    if odd := drawn.keys() ^ LINES.keys():
        raise ValueError(f"the state diagram and the table differ in {odd}")
    parts = [HEAD, frame(), '<g font-size="13">\n', start()]
    parts += [arrow(source, target, events) for (source, target), events in drawn.items()]
    parts += ["</g>\n", *(box(status) for status in TRANSITIONS)]
    return f'<figure class="diagram">\n{"".join(parts)}</svg>\n</figure>'


def frame() -> str:
    x, y, width, height, colour = FRAME
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="10" fill="none" '
        f'stroke="{colour}" stroke-opacity="0.6" stroke-dasharray="5 4"/>\n'
    )


def start() -> str:
    return line("M48 28V82", TIP) + '<text x="48" y="18" text-anchor="middle">start</text>\n'


def arrow(source: str, target: str, events: list[Transition]) -> str:
    path, label = LINES[source, target]
    facts = f' data-from="{source}" data-events="{", ".join(events)}" data-to="{target}"'
    if label is None:
        return line(path, facts)
    x, y, anchor = label
    facts += TIP
    text = f'<text x="{x}" y="{y}" text-anchor="{anchor}">{", ".join(events)}</text>\n'
    return line(path, facts) + text


def line(path: str, attributes: str) -> str:
    return f'<path d="{path}" fill="none" stroke="{GREY}" stroke-width="1.5"{attributes}/>\n'


def box(status: Status) -> str:
    x, y, width, height, colour = BOXES[status]
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="none" '
        f'stroke="{colour}" stroke-width="1.8"/>\n'
        f'<text x="{x + width // 2}" y="{y + height // 2 + 5}" text-anchor="middle" '
        f'fill="{colour}" font-weight="600">{status}</text>\n'
    )


def table() -> str:
    lines = ["| from | accepted |", "| --- | --- |"]
    for status, row in TRANSITIONS.items():
        arrows = [f"{event} → `{target}`" for event, target in row.items()]
        lines.append(f"| `{status}` | {', '.join(arrows) or 'nothing'} |")
    return "\n".join(lines)
