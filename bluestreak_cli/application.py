"""The application that a command works on: imported, or made from a MongoDB URL."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bluestreak_cli.exit_code import ExitCode
from bluestreak_cli.failure import CommandError
from bluestreak_core import Bluestreak, Client

APP = "BLUESTREAK_APP"
MONGO = "BLUESTREAK_MONGO"
DATABASE = "BLUESTREAK_DATABASE"
DEFAULT_DATABASE = "bluestreak"

_NAME_IT = f"name it with --app module:attribute or {APP}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where the workflows are: an application, or a database. None is taken from the environment.

    What is given on the command line counts before the environment.
    """

    app: str | None = None
    mongo: str | None = None
    database: str | None = None

    @classmethod
    def of(cls, app: str | None, mongo: str | None, database: str | None) -> Target:
        """What is given, completed from the environment."""
        if app is not None and (mongo is not None or database is not None):
            remedy = "leave out --mongo and --database, or --app"
            raise CommandError("an application has its own database", remedy)
        environ = os.environ
        if app is None and mongo is None:
            app = environ.get(APP) if database is None else None
            mongo = environ.get(MONGO) if not app else None
        return cls(app=app or None, mongo=mongo or None, database=database or environ.get(DATABASE))

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Client]:
        """The application, or a client of the database, between `init` and `close`."""
        async with self.client() as client:
            yield client

    def client(self) -> Client:
        """The application, or a client of the database."""
        if self.app is not None:
            return load(self.app)
        return Client(mongo_store(*self.server()))

    def server(self) -> tuple[str, str]:
        """The URL and the name of the database."""
        if self.mongo is None:
            remedy = f"{_NAME_IT}, or give a database with --mongo URL --database NAME"
            raise CommandError("no application is given", remedy)
        return self.mongo, self.database or DEFAULT_DATABASE


def load(name: str) -> Client:
    """Import `module:attribute`, and call it if it is a factory."""
    module_name, colon, attribute = name.partition(":")
    if not (colon and module_name and attribute):
        raise CommandError(f"{name!r} names no application", _NAME_IT)
    here = str(Path.cwd())
    if not {"", here} & set(sys.path):
        sys.path.insert(0, here)
    found: Any = _imported(module_name)
    for part in attribute.split("."):
        if not hasattr(found, part):
            remedy = "name a Bluestreak, or a function that returns one"
            raise CommandError(f"module {module_name!r} has no {attribute!r}", remedy)
        found = getattr(found, part)
    if not isinstance(found, Client) and callable(found):
        found = _made(name, found)
    if not isinstance(found, Client):
        remedy = "name a Bluestreak, or a function that returns one"
        raise CommandError(f"{name!r} is of type {type(found).__name__}", remedy)
    return found


def load_worker(name: str) -> Bluestreak:
    """`load` an application that can run workflows."""
    found = load(name)
    if not isinstance(found, Bluestreak):
        kind = type(found).__name__
        raise CommandError(f"{name!r} is a {kind}, which runs nothing", "name a Bluestreak")
    return found


def mongo_store(url: str, database: str) -> Any:
    """A `MongoStore`, if its driver is installed."""
    try:
        from bluestreak_mongo import MongoStore  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise CommandError(str(error), "install it", ExitCode.REFUSED) from error
    return MongoStore(url, database=database)


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise CommandError(f"importing {name!r}: {error}", "install what it needs") from error
        remedy = "run the command in the folder of the application, or set PYTHONPATH"
        raise CommandError(f"there is no module {name!r}", remedy) from error
    except Exception as error:  # the module is the application's
        raise _fault(f"importing {name!r}", error) from error


def _made(name: str, factory: Callable[[], Any]) -> Any:
    try:
        return factory()
    except Exception as error:  # the factory is the application's
        raise _fault(f"calling {name!r}", error) from error


def _fault(doing: str, error: Exception) -> CommandError:
    where = traceback.extract_tb(error.__traceback__)[-1]
    # A SyntaxError says so itself.
    place = "" if isinstance(error, SyntaxError) else f" ({where.filename}, line {where.lineno})"
    what = f"{type(error).__name__}: {error}{place}"
    return CommandError(f"{doing} raised {what}", "see the traceback with --debug")
