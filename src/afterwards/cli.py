"""The command `afterwards`. Each command hands on to `_cli`; here is only what the command line looks like.

Exit status: 0 when it was done, 1 when it was refused or not found, 2 when the command line makes no sense.
"""

import os
from enum import StrEnum
from typing import Annotated

import typer

from afterwards._cli import tasks as task_commands
from afterwards._cli import upkeep
from afterwards._cli.launch import Launch
from afterwards._cli.printing import HERE, Folder, Json, one_of, print_lines, refuse, state_option
from afterwards._cli.run import run as serve_program
from afterwards._cli.run import work as work_on_program
from afterwards._cli.version import version_line
from afterwards._domain.tasks import TaskState
from afterwards._store.contract import Filter
from afterwards.errors import Error

app = typer.Typer(
    help="Durable background tasks for FastAPI: serve a program, run its tasks, look at them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help fits 80 columns
    context_settings={"help_option_names": ["-h", "--help"]},
)
tasks = typer.Typer(
    help="Look at the tasks of a data directory; no server is needed.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(tasks, name="tasks")


class LogFormat(StrEnum):
    """How log lines look."""

    text = "text"
    json = "json"


Target = Annotated[str, typer.Argument(metavar="MODULE:APP", help="The application, such as main:app.")]
Data = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        envvar="AFTERWARDS_DATA",
        show_envvar=False,
        help="The data directory.  [default: afterwards-data]",
        show_default=False,
    ),
]
AppDir = Annotated[str, typer.Option(metavar="DIR", help="Where the program is imported from.")]
Factory = Annotated[bool, typer.Option("--factory", help="MODULE:APP is a function that makes the application.")]
Drain = Annotated[
    float | None,
    typer.Option(
        min=0,
        metavar="SECONDS",
        envvar="AFTERWARDS_DRAIN",
        show_envvar=False,
        show_default=False,
        help="What running requests and tasks get at a stop; the rest is run again by the next start.  "
        "[default: 10, with --reload 0]",
    ),
]
Concurrency = Annotated[
    int | None,
    typer.Option(
        min=1,
        envvar="AFTERWARDS_CONCURRENCY",
        show_envvar=False,
        help="`async def` tasks each process runs at once.  [default: 100]",
        show_default=False,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        envvar="AFTERWARDS_THREADS",
        show_envvar=False,
        help="`def` tasks each process runs at once.  [default: 40]",
        show_default=False,
    ),
]
Format = Annotated[
    LogFormat,
    typer.Option(
        "--log-format",
        parser=one_of(LogFormat),
        metavar="text|json",
        envvar="AFTERWARDS_LOG_FORMAT",
        show_envvar=False,
        help="How log lines look.",
    ),
]
Id = Annotated[str, typer.Argument(metavar="ID", help="The task's id.")]


@app.command()
def run(
    target: Target,
    host: Annotated[
        str, typer.Option(envvar="AFTERWARDS_HOST", show_envvar=False, help="The address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            min=0, max=65535, envvar="AFTERWARDS_PORT", show_envvar=False, help="The port; 0 takes a free one."
        ),
    ] = 8000,
    workers: Annotated[
        int,
        typer.Option(
            min=1, envvar="AFTERWARDS_WORKERS", show_envvar=False, help="Processes that share requests and tasks."
        ),
    ] = 1,
    data: Data = None,
    reload: Annotated[bool, typer.Option("--reload", help="Start anew when a file of the program changes.")] = False,
    drain: Drain = None,
    log_format: Format = LogFormat.text,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            envvar="AFTERWARDS_STRICT",
            show_envvar=False,
            help="Refuse tasks that cannot be stored instead of running them unsaved.",
        ),
    ] = False,
    no_tasks: Annotated[
        bool, typer.Option("--no-tasks", help="Only accept tasks; `afterwards worker` runs them.")
    ] = False,
    concurrency: Concurrency = None,
    threads: Threads = None,
    factory: Factory = False,
    app_dir: AppDir = ".",
    access_log: Annotated[bool, typer.Option(help="Log each request.")] = True,
    root_path: Annotated[str, typer.Option(help="Where a proxy has put the application.")] = "",
    forwarded_allow_ips: Annotated[
        str | None,
        typer.Option(help="Proxies whose X-Forwarded headers are believed, with commas between.", show_default=False),
    ] = None,
    http: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:CLASS", help="A protocol of your own, such as a subclass of ours.", show_default=False
        ),
    ] = None,
) -> None:
    """Serve a FastAPI program, unchanged, with all its background tasks durable."""
    if reload and workers > 1:
        raise typer.BadParameter("--reload serves with one process: leave --workers out.")
    launch = Launch(
        command="run",
        target=target,
        app_dir=os.path.abspath(app_dir),
        factory=factory,
        data=data,
        strict=True if strict else None,
        runs_tasks=False if no_tasks else None,
        concurrency=concurrency,
        threads=threads,
        drain=0.0 if reload and drain is None else drain,
        log_format=log_format,
        access_log=access_log,
        root_path=root_path,
        forwarded_allow_ips=forwarded_allow_ips,
        http=http,
    )
    try:
        status = serve_program(launch, host=host, port=port, workers=workers, reload=reload)
    except Error as error:
        refuse(error)
    raise typer.Exit(status)


@app.command()
def worker(
    target: Target,
    processes: Annotated[
        int, typer.Option(min=1, envvar="AFTERWARDS_PROCESSES", show_envvar=False, help="How many processes work.")
    ] = 1,
    data: Data = None,
    drain: Drain = None,
    log_format: Format = LogFormat.text,
    concurrency: Concurrency = None,
    threads: Threads = None,
    factory: Factory = False,
    app_dir: AppDir = ".",
) -> None:
    """Run the tasks of a program without serving it; any number of processes share one data directory."""
    launch = Launch(
        command="worker",
        target=target,
        app_dir=os.path.abspath(app_dir),
        factory=factory,
        data=data,
        runs_tasks=True,
        concurrency=concurrency,
        threads=threads,
        drain=drain,
        log_format=log_format,
    )
    raise typer.Exit(work_on_program(launch, processes=processes))


@app.command()
def version() -> None:
    """Print the versions that a bug report needs."""
    typer.echo(version_line())


upkeep.add_to(app)


@tasks.command("list")
def list_tasks(
    state: Annotated[TaskState | None, state_option("Only tasks in this state.")] = None,
    name: Annotated[
        str | None, typer.Option(help="Only tasks of this function, as listed.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most, newest first.")] = 50,
    json: Json = False,
    data: Folder = HERE,
) -> None:
    """List tasks, newest first."""
    print_lines(task_commands.listed(data, Filter(state=state, name=name, limit=limit), as_json=json))


@tasks.command()
def show(id: Id, json: Json = False, data: Folder = HERE) -> None:
    """Show everything about one task: its attempts, files, error and log."""
    print_lines(task_commands.shown(data, id, as_json=json))


@tasks.command()
def watch(id: Id, json: Json = False, data: Folder = HERE) -> None:
    """Follow a task until it has ended; exits with 1 when it did not succeed."""
    print_lines(task_commands.watched(data, id, as_json=json))
    try:
        raise typer.Exit(0 if task_commands.state(data, id) is TaskState.SUCCEEDED else 1)
    except Error as error:
        refuse(error)


@tasks.command()
def retry(id: Id, json: Json = False, data: Folder = HERE) -> None:
    """Queue a task that has ended again, with its counters at zero."""
    print_lines(task_commands.retried(data, id, as_json=json))


@tasks.command()
def counts(json: Json = False, data: Folder = HERE) -> None:
    """Count the tasks in each state."""
    print_lines(task_commands.totals(data, as_json=json))


def main() -> None:
    """Run the command line."""
    app(prog_name="afterwards")


if __name__ == "__main__":
    main()
