"""The command `bluestreak`: run workers, and find, start and control workflows.

`main` has the commands, each group in a module of its own. `command` adds them, `application` opens
what they work on, `output` prints, and `failure` says what to do about an error. `fleet` looks
after the processes of `bluestreak worker --processes N`.
"""

from bluestreak_core.adapter import needing

with needing("cli", "rich", "typer"):
    from bluestreak_cli.main import main

__all__ = ["main"]
