"""What the commands share: options of the same name, and how lines and refusals are printed."""

import os
import sys
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from afterwards._domain.tasks import TaskState
from afterwards.errors import Error

Json = Annotated[bool, typer.Option("--json", help="Print JSON, as the HTTP API gives it.")]
Folder = Annotated[
    Path,
    typer.Option(
        "--data", metavar="DIR", envvar="AFTERWARDS_DATA", show_envvar=False, help="The program's data directory."
    ),
]
HERE = Path("afterwards-data")


def one_of(kind: type[StrEnum]) -> Callable[[str], StrEnum]:
    """Return what reads the value of an option that has a few, and says which when it is none of them."""

    def read(text: str) -> StrEnum:
        try:
            return kind(text.lower())
        except ValueError:
            raise typer.BadParameter(f"{text!r} is none. Write one of {', '.join(kind)}.") from None

    return read


def state_option(help: str) -> Any:
    """Return the option `--state`."""
    return typer.Option(parser=one_of(TaskState), metavar="STATE", help=help, show_default=False)


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
