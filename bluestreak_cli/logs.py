"""Log lines of workers, on the standard error: text, or a JSON document each."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from typing_extensions import override

from bluestreak_cli.json_form import dumped, instant_form
from bluestreak_core.errors.text import printable


def set_up_logs(*, as_json: bool) -> None:
    """Log from INFO on, unless the application has set up logs itself."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Json() if as_json else _Text())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class _Text(logging.Formatter):
    @override
    def format(self, record: logging.LogRecord) -> str:
        begin = f"{_at(record)} {record.levelname:<7} {record.process}"
        line = f"{begin} {record.name}: {printable(record.getMessage())}"
        if record.exc_info is None:
            return line
        trace = self.formatException(record.exc_info).split("\n")
        return "\n".join([line, *map(printable, trace)])


class _Json(logging.Formatter):
    @override
    def format(self, record: logging.LogRecord) -> str:
        return dumped(
            {
                "at": _at(record),
                "level": record.levelname,
                "process": record.process,
                "logger": record.name,
                "message": record.getMessage(),
                "traceback": record.exc_info and self.formatException(record.exc_info),
            }
        )


def _at(record: logging.LogRecord) -> str:
    return instant_form(datetime.fromtimestamp(record.created, UTC))
