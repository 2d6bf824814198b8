"""Imports the program that `run` and `worker` are to serve, and makes its background tasks durable.

Afterwards is imported first, so that it sees every route being made. The command line hands its settings over in the
environment, because every process of a server imports for itself.
"""

import importlib
import inspect
import os
import sys
import traceback
from pathlib import PurePath
from typing import Any, NoReturn

import msgspec

from afterwards._cli.lifespan import Bare
from afterwards._files.directory import load_key
from afterwards._files.entering import entering
from afterwards._store.sqlite.store import SqliteStore
from afterwards._web.access import RUN
from afterwards._web.applications import OURS
from afterwards._web.unmodified import application_in, is_application, replace_names
from afterwards.errors import Error, ProgramRefused, SettingRefused
from afterwards.fastapi import Afterwards

VARIABLE = "AFTERWARDS_LAUNCH"


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line said; None where it said nothing and the program's own word counts."""

    command: str  # "run" or "worker", for messages
    target: str  # module:name
    app_dir: str
    factory: bool = False
    data: str | None = None
    strict: bool | None = None
    runs_tasks: bool | None = None
    concurrency: int | None = None
    threads: int | None = None
    drain: float | None = None
    log_format: str = "text"
    access_log: bool = True
    root_path: str = ""
    forwarded_allow_ips: str | None = None
    http: str | None = None  # MODULE:CLASS; None: ours

    def publish(self) -> None:
        """Leave it where this process and those it starts look for it."""
        os.environ[VARIABLE] = msgspec.json.encode(self).decode()
        os.environ[RUN] = os.urandom(16).hex()
        if self.data is not None:  # also for a program that makes its own Afterwards
            os.environ["AFTERWARDS_DATA"] = self.data

    @staticmethod
    def published() -> "Launch":
        """Return what was published."""
        return msgspec.json.decode(os.environ[VARIABLE], type=Launch)


class Current:
    """The installation that this process serves, once it has been loaded."""

    installation: Afterwards | None = None


def app() -> Any:
    """Return the program's ASGI application. uvicorn calls this in each of its processes.

    Exits with 1 and says why when the program cannot be served.
    """
    launch = Launch.published()
    try:
        served, installation = load(launch)
        check_data(installation)
    except Error as error:
        refuse(error)
    Current.installation = installation
    return served


def refuse(error: Error) -> NoReturn:
    """Say why in one sentence, and exit with 1."""
    sys.stderr.write(f"afterwards: {error}\n")
    raise SystemExit(1)


def load(launch: Launch) -> tuple[Any, Afterwards]:
    """Import the program and return its application and its installation.

    Raises:
        ProgramRefused: It is not there, or is not a FastAPI application.
        SettingRefused: A variable of the environment means nothing.
        RoutesTooEarly: Something imported the program before us.
    """
    if launch.app_dir not in sys.path[:1]:
        sys.path.insert(0, launch.app_dir)
    replace_names()
    found = _find(launch)
    if isinstance(found, Afterwards):
        served, installation = (found.app or Bare(found)), found
    else:
        inner = _inner(found, launch)
        served, installation = found, getattr(inner, OURS, None) or Afterwards(inner)
    installation.overrule(
        serves=launch.command == "run",
        strict=launch.strict,
        data=launch.data,
        runs_tasks=launch.runs_tasks,
        concurrency=launch.concurrency,
        threads=launch.threads,
        drain=launch.drain,
    )
    return served, installation


def protocol(launch: Launch) -> Any:
    """Return the class that is to serve connections, after the program was loaded; None: ours.

    Exits with 1 and says why when there is no such class.
    """
    if launch.http is None:
        return None
    module, _, name = launch.http.partition(":")
    try:
        found = getattr(_import(module, msgspec.structs.replace(launch, target=launch.http)), name, None)
        if not inspect.isclass(found):
            raise ProgramRefused(
                program=launch.http,
                reason=f"the module {module} has no class {name!r}",
                remedy="Write --http MODULE:CLASS, such as a subclass of afterwards.server.HttpProtocol.",
            )
    except Error as error:
        refuse(error)
    return found


def check_data(installation: Afterwards) -> None:
    """Open the data directory once, so that what is wrong with it is said before the program starts.

    Raises:
        StoreRefused: It cannot be used.
    """
    with entering(installation.data) as root:
        load_key(root)
        SqliteStore(root / "afterwards.db").close()


def _find(launch: Launch) -> Any:
    module_name, _, attribute = launch.target.partition(":")
    if module_name.endswith(".py"):
        raise ProgramRefused(
            program=launch.target,
            reason="it is the name of a file",
            remedy=f"Write the module and the application in it: afterwards {launch.command} "
            f"{PurePath(module_name).stem}:{attribute or 'app'}",
        )
    module = _import(module_name, launch)
    found: Any = module
    for part in (attribute or "app").split("."):
        if not hasattr(found, part):
            raise ProgramRefused(
                program=launch.target,
                reason=f"the module {module_name} ({_place(module)}) has no attribute {(attribute or 'app')!r}",
                remedy=_suggest(module, module_name, launch),
            )
        found = getattr(found, part)
    if launch.factory:
        return _call(found, launch)
    return found


def _import(module_name: str, launch: Launch) -> Any:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as missing:
        if missing.name is None or not f"{module_name}.".startswith(f"{missing.name}."):
            _show(missing, launch)
        raise ProgramRefused(
            program=launch.target,
            reason=f"there is no module {missing.name!r} in {launch.app_dir} or on Python's path",
            remedy="Start it in the program's folder or name that with --app-dir, and write MODULE:APPLICATION, "
            "such as main:app for `app` in main.py.",
        ) from None
    except SettingRefused:  # of our own settings, and said in a sentence
        raise
    except (Exception, SystemExit) as raised:  # noqa: BLE001 - whatever it is, it is the program's and is shown
        _show(raised, launch)


def _call(factory: Any, launch: Launch) -> Any:
    if not callable(factory) or is_application(factory):
        raise ProgramRefused(
            program=launch.target,
            reason=f"it is {_kind(factory)}, not a function that makes an application",
            remedy="Leave --factory out.",
        )
    try:
        return factory()
    except SettingRefused:  # of our own settings, and said in a sentence
        raise
    except (Exception, SystemExit) as raised:  # noqa: BLE001 - whatever it is, it is the program's and is shown
        _show(raised, launch)


def _show(raised: BaseException, launch: Launch) -> NoReturn:
    """Show the program's own error from its own first line on, and exit with 1."""
    trace = raised.__traceback__
    while trace is not None and (
        trace.tb_frame.f_code.co_filename == __file__
        or trace.tb_frame.f_globals.get("__name__", "").startswith("importlib")
    ):
        trace = trace.tb_next
    traceback.print_exception(raised.with_traceback(trace))
    sys.stderr.write(f"afterwards: {launch.target} could not be imported; its error is above.\n")
    raise SystemExit(1)


def _inner(found: Any, launch: Launch) -> Any:
    inner = application_in(found)
    if inner is not None:
        return inner
    module = sys.modules[launch.target.partition(":")[0]]
    remedy = _suggest(module, module.__name__, launch)
    if inspect.isroutine(found) and not inspect.iscoroutinefunction(found):
        remedy = f"If it makes the application, start it with `afterwards {launch.command} {launch.target} --factory`."
    raise ProgramRefused(
        program=launch.target, reason=f"it is {_kind(found)}, not a FastAPI application", remedy=remedy
    )


def _suggest(module: Any, module_name: str, launch: Launch) -> str:
    names = [name for name, value in vars(module).items() if is_application(value)]
    if names:
        return f"It has a FastAPI application named {names[0]}: afterwards {launch.command} {module_name}:{names[0]}"
    return "Name a FastAPI application, as MODULE:NAME, or a function that makes one, with --factory."


def _kind(value: Any) -> str:
    if inspect.isroutine(value):
        return "a function"
    return "a class" if inspect.isclass(value) else f"a value of type {type(value).__qualname__}"


def _place(module: Any) -> str:
    return getattr(module, "__file__", None) or "a package without a file"
