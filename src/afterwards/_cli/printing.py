"""What the commands share: options of the same name, and how lines and refusals are printed."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from afterwards.errors import Error

Json = Annotated[bool, typer.Option("--json", help="Print JSON, as the HTTP API gives it.")]
Folder = Annotated[
    Path,
    typer.Option(
        "--data", metavar="DIR", envvar="AFTERWARDS_DATA", show_envvar=False, help="The program's data directory."
    ),
]
HERE = Path("afterwards-data")


def print_lines(lines: Iterable[str]) -> None:
    """Print lines as they come; exit with 1 and a sentence when we refuse."""
    try:
        for line in lines:
            typer.echo(line)
    except Error as error:
        refuse(error)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except BrokenPipeError:  # whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None


def refuse(error: Error) -> NoReturn:
    """Say why in one sentence, and exit with 1."""
    typer.echo(f"afterwards: {error}", err=True)
    raise typer.Exit(1)
