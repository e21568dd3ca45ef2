"""What a doctor says of one thing, and how good that is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Grade(StrEnum):
    """How good a finding is."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that was looked at. `remedy` is what to do; empty if nothing need be done."""

    subject: str
    grade: Grade
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{self.grade.value:<8} {self.subject}: {self.message}"
        return f"{text}\n{'':<8} -> {self.remedy}" if self.remedy else text
