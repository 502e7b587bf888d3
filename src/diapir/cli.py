"""The command line: arguments in, one step per command. Imports inside functions keep `diapir --help` quick."""

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from diapir import __version__
from diapir.faults import InputError

app = typer.Typer(
    name="diapir",
    help="Finds salt in seismic data.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
data_app = typer.Typer(help="Read, make and look at tiles.", no_args_is_help=True)
app.add_typer(data_app, name="data")


@app.callback(invoke_without_command=True)
def diapir(version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    """Finds salt in seismic data."""
    if version:
        print(f"diapir {__version__}")
        raise typer.Exit


def main() -> None:
    """Run a command; a fault of the input ends it with one line a fault and exit status 2."""
    try:
        app()
    except InputError as error:
        for fault in error.faults:
            print(f"error: {fault}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        # The reader of a pipe left (`diapir ... | head`): no fault of ours, and no traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        place = f"{Path(error.filename)}: " if error.filename else ""
        print(f"error: {place}{error.strerror or error}", file=sys.stderr)
        sys.exit(2)
