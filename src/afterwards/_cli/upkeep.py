"""The commands that look after a data directory: what their command lines look like."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from afterwards._cli import backup as backups
from afterwards._cli import doctor as doctors
from afterwards._cli import purge as purges
from afterwards._cli import restore as restores
from afterwards._cli.printing import HERE, Folder, Json, print_lines, refuse, state_option
from afterwards._domain.retention import parse_duration
from afterwards._domain.tasks import FINAL, TaskState
from afterwards.errors import Error


def doctor(
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended safely.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Do not read files to compare their digests.")] = False,
    json: Json = False,
    data: Folder = HERE,
) -> None:
    """Check every row and every file, also while programs run; exits with 1 when there is a problem."""
    try:
        lines, healthy = doctors.examined(data, quick=quick, repair=repair, as_json=json)
    except Error as error:
        refuse(error)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    print_lines(lines)
    raise typer.Exit(0 if healthy else 1)


def backup(
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="A folder: new, empty, or an earlier backup.")],
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy every file, also where a link on the same disk would do.")
    ] = False,
    json: Json = False,
    data: Folder = HERE,
) -> None:
    """Copy a data directory, consistent while programs run. An earlier backup there is brought up to date."""
    _ending(lambda: backups.backed_up(data, target, copy=copy, as_json=json))


def restore(
    source: Annotated[Path, typer.Argument(metavar="BACKUP", help="What `afterwards backup` made.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Set aside what is in the data directory, instead of refusing.")
    ] = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="Restore the rest when files of the backup are missing or damaged.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only verify the backup.")] = False,
    json: Json = False,
    data: Folder = HERE,
) -> None:
    """Make a data directory from a backup, after comparing every digest. Programs of it must be stopped."""
    _ending(lambda: restores.restored(source, data, replace=replace, partial=partial, dry_run=dry_run, as_json=json))


def purge(
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="TIME", help="How long ago a task ended or a file came: 7d, 12h.")
    ],
    tasks: Annotated[bool, typer.Option("--tasks", help="Tasks that have ended.")] = False,
    files: Annotated[bool, typer.Option("--files", help="Files that no task has any more.")] = False,
    uploads: Annotated[bool, typer.Option("--uploads", help="Uploads that no task has taken.")] = False,
    state: Annotated[TaskState | None, state_option("Only tasks that ended like this.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Json = False,
    data: Folder = HERE,
) -> None:
    """Delete what is done with: ended tasks and the files they leave, unless told otherwise. Asks before it does."""
    if state is not None and state not in FINAL:
        raise typer.BadParameter(
            f"--state {state}: only tasks that have ended can be deleted: {', '.join(sorted(FINAL))}."
        )
    if state is not None and (files or uploads) and not tasks:
        raise typer.BadParameter("--state is about tasks: add --tasks, or leave it out.")
    if not (tasks or files or uploads):
        tasks = files = True
    wanted = purges.Wanted(tasks=tasks, files=files, uploads=uploads, older_than=_length(older_than), state=state)
    _ending(
        lambda: (purges.purged(data, wanted, dry_run=dry_run, ask=None if yes or dry_run else _ask, as_json=json), 0)
    )


def _length(text: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(f"--older-than: {error}.") from None


def _ask(question: str) -> bool:
    return typer.confirm(question, err=True)


def _ending(call: Any) -> None:
    """Print what a command says and exit with its status."""
    try:
        lines, status = call()
    except Error as error:
        refuse(error)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    print_lines(lines)
    raise typer.Exit(status)


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (doctor, backup, restore, purge):
        app.command()(command)
