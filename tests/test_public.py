"""The public surface."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from importlib.metadata import requires, version
from pathlib import Path

import pytest

import bluestreak_core

ROOT = Path(__file__).parent.parent
PACKAGES = [
    "bluestreak_core",
    "bluestreak_core.testing",
    "bluestreak_core.adapter",
    "bluestreak_memory",
    "bluestreak_mongo",
    "bluestreak_otel",
    "bluestreak_pydantic",
    "bluestreak_console",
    "bluestreak_cli",
]
ROOMS = [
    "bluestreak_core.client",
    "bluestreak_core.testing.contract",
    "bluestreak_core.testing.sweep",
    "bluestreak_core.testing.virtual",
]


@pytest.mark.parametrize("name", PACKAGES + ROOMS)
def test_every_public_name_exists_and_says_what_it_is(name: str) -> None:
    package = importlib.import_module(name)
    assert package.__doc__
    for public in package.__all__:
        value = getattr(package, public)
        if inspect.isclass(value) or inspect.isfunction(value):  # a type alias has none
            assert value.__doc__, f"{name}.{public} has no docstring"


@pytest.mark.parametrize("name", PACKAGES[:1] + PACKAGES[3:])
def test_every_package_is_typed(name: str) -> None:
    assert (ROOT / name / "py.typed").exists()


def test_the_core_and_the_memory_store_run_without_any_extra() -> None:
    program = "import sys, bluestreak_core, bluestreak_memory; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"pymongo", "bson", "motor", "opentelemetry", "pydantic", "pytest"} & set(modules)


MISSING = {
    ("bluestreak_mongo", "pymongo"): "pip install 'bluestreak[mongo]'",
    ("bluestreak_mongo", "bson"): "pip install 'bluestreak[mongo]'",
    ("bluestreak_mongo.local", "pymongo"): "pip install 'bluestreak[mongo]'",
    ("bluestreak_cli", "typer"): "pip install 'bluestreak[cli]'",
    ("bluestreak_cli", "rich"): "pip install 'bluestreak[cli]'",
    ("bluestreak_otel", "opentelemetry"): "pip install 'bluestreak[otel]'",
    ("bluestreak_console", "starlette"): "pip install 'bluestreak[console]'",
    ("bluestreak_console", "jinja2"): "pip install 'bluestreak[console]'",
    ("bluestreak_pydantic", "pydantic"): "pip install 'bluestreak[pydantic]'",
    ("bluestreak_pydantic", "pydantic_core"): "pip install 'bluestreak[pydantic]'",
}


@pytest.mark.parametrize(("package", "hidden"), MISSING)
def test_without_its_extra_a_package_says_which_one_to_install(package: str, hidden: str) -> None:
    last = last_line_of(f"import sys; sys.modules[{hidden!r}] = None; import {package}")
    assert last.startswith("ModuleNotFoundError: ")
    assert last.endswith(MISSING[package, hidden])


def test_another_package_of_the_name_bson_is_not_taken_for_pymongos(tmp_path: Path) -> None:
    (tmp_path / "bson.py").touch()
    last = last_line_of(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import bluestreak_mongo"
    )
    assert str(tmp_path / "bson.py") in last
    assert last.endswith("pip install 'bluestreak[mongo]'")


def test_the_fault_of_another_module_names_no_extra() -> None:
    last = last_line_of("import sys; sys.modules['socket'] = None; import bluestreak_mongo")
    assert last == "ModuleNotFoundError: import of socket halted; None in sys.modules"


def last_line_of(program: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    return run.stderr.splitlines()[-1]


def test_the_version_is_that_of_the_package_and_no_other_name_is_made_up() -> None:
    assert bluestreak_core.__version__ == version("bluestreak")
    with pytest.raises(AttributeError, match="'bluestreak_core' has no attribute '__versoin__'"):
        getattr(bluestreak_core, "__versoin__")  # noqa: B009 - which mypy would refuse


def test_the_page_of_a_package_index_has_no_link_that_leads_nowhere() -> None:
    hatch = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]
    readme = hatch["metadata"]["hooks"]["fancy-pypi-readme"]
    source = "".join((ROOT / part["path"]).read_text() for part in readme["fragments"])
    text = source
    for substitution in readme["substitutions"]:
        text = re.sub(substitution["pattern"], substitution["replacement"], text)
    assert re.findall(r"\]\((?!https?://|#).*?\)", text) == []
    names_of_local_links = re.findall(r"\[([^\]]+)\]\((?!https?://|#)[^)]+\)", source)
    assert names_of_local_links
    assert all(name in text for name in names_of_local_links)


def test_a_source_distribution_holds_the_packages_and_what_describes_them() -> None:
    hatch = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]
    targets = hatch["build"]["targets"]
    assert {*targets["sdist"]["only-include"]} == {
        *targets["wheel"]["packages"],
        "README.md",
        "CHANGELOG.md",
        "SECURITY.md",
    }


def test_the_core_depends_on_typing_extensions_only() -> None:
    needed = [name for name in requires("bluestreak") or [] if "extra ==" not in name]
    assert [re.match(r"[\w-]+", name)[0] for name in needed] == ["typing-extensions"]  # type: ignore[index]


def test_the_five_verbs_are_the_same_words_in_every_layer() -> None:
    from bluestreak_core import Store, machine  # noqa: PLC0415
    from bluestreak_core.run.journal import Journal  # noqa: PLC0415
    from bluestreak_memory import MemoryStore  # noqa: PLC0415
    from bluestreak_mongo import MongoStore  # noqa: PLC0415

    for verb in ("claim", "save_step", "save_nap", "finish", "fail"):
        assert all(hasattr(layer, verb) for layer in (Store, MemoryStore, MongoStore))
    assert all(hasattr(Journal, verb) for verb in ("save_step", "save_nap", "finish", "fail"))
    assert all(hasattr(machine, verb) for verb in ("claim", "finish", "fail"))


def test_each_field_name_of_the_documents_is_spelled_in_one_file_of_the_schema() -> None:
    fields = re.compile(
        r"[\"'](workflowId|handlerId|timeoutAt|stepId|napId|wakeUpAt|claimLog)[\"']"
    )
    spelled = [
        (field, path.parent.name)
        for package in {package.partition(".")[0] for package in PACKAGES}
        for path in (ROOT / package).rglob("*.py")
        for field in fields.findall(path.read_text())
    ]
    assert len(spelled) == 7
    assert {folder for _, folder in spelled} == {"schema"}
