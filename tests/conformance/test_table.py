"""The table of the cases names each test of this folder."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parent
ROW = re.compile(r"\| (\d+-\d+) \| (.+) \|")
NAMED = re.compile(r"`(\w+)::(\w+)(?:\[(.+?)\])?`")

CASES = {1: 20, 2: 5, 3: 18, 4: 19, 5: 16, 6: 13, 7: 15, 8: 22, 9: 20, 10: 7}
"""How many cases each area has."""


def rows() -> dict[str, str]:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    return dict(ROW.findall(text))


def entries() -> list[tuple[str, str, str]]:
    """The modules, tests and parameters that the table names."""
    return [entry for text in rows().values() for entry in NAMED.findall(text)]


def names_in(path: Path) -> set[tuple[str, str]]:
    # Not by ast: it raises SystemError in Python 3.11 if the collector logs a traceback meanwhile.
    names = re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {(path.stem, name) for name in names}


def test_the_table_has_a_row_for_each_case() -> None:
    expected = [f"{area}-{number + 1}" for area, size in CASES.items() for number in range(size)]
    assert list(rows()) == expected


def test_the_table_names_each_test_and_no_other() -> None:
    named = {(module, name) for module, name, _ in entries()}
    ours = set[tuple[str, str]]()
    for path in FOLDER.glob("test_*.py"):
        if path.stem != "test_table":
            ours |= names_in(path)
    assert named == ours


def test_the_parameters_that_the_table_names_exist() -> None:
    missing = [
        parameter
        for module, _, parameter in entries()
        if parameter
        and f'"{parameter}"' not in (FOLDER / f"{module}.py").read_text(encoding="utf-8")
    ]
    assert missing == []
