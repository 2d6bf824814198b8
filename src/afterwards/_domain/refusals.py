"""Why a value cannot be stored, and what to do instead, for the kinds of value people really pass.

What is recognised here is refused before pydantic is asked: a try would read an iterator empty or a
file to its end, and a task that then runs unsaved would find nothing left.
"""

import collections.abc
import types
from typing import Any


class Refused(Exception):
    """A value that cannot be stored. `path` grows on the way out: [".items", "[3]"]."""

    def __init__(self, kind: str, reason: str, remedy: str, *, hopeless: bool = False) -> None:
        super().__init__(reason)
        self.kind = kind  # the type as a message shows it
        self.reason = reason
        self.remedy = remedy
        self.hopeless = hopeless  # no annotation can change it
        self.whole = False  # the refusal is about all of the value and not about a place in it
        self.path: list[str] = []

    def at(self, piece: str) -> "Refused":
        """The same refusal, seen from the value that holds this one."""
        if not self.whole:
            self.path.insert(0, piece)
        return self


def shown(cls: type) -> str:
    """How a message names a type: `a list`, `a shop.models.Order`. Never the value: it may be long or secret."""
    name = _name(cls)
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _name(cls: type) -> str:
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


# By the class that an object inherits from; reason and remedy. Named as text, because importing them would cost
# time and would tie this module to libraries that may not be there.
_BY_BASE = {
    "_io._IOBase": (  # also below io.IOBase
        "an open file, which ends with this process",
        "Save it and pass the path, or pass the UploadFile itself.",
    ),
    "tempfile._TemporaryFileWrapper": (
        "a temporary file, which ends with this process",
        "Save it where it stays and pass the path, or pass the UploadFile itself.",
    ),
    "tempfile.SpooledTemporaryFile": (
        "a temporary file, which ends with this process",
        "Save it where it stays and pass the path, or pass the UploadFile itself.",
    ),
    "starlette.datastructures.UploadFile": (
        "an upload, and uploads are kept only as arguments of add_task",
        "Save it and pass the path.",
    ),
    "starlette.requests.HTTPConnection": (
        "a request, which ends with its response",
        "Read what the task needs and pass that: the body, a header, the client's address.",
    ),
    "starlette.responses.Response": (
        "a response, which belongs to the connection that waits for it",
        "Pass the data that it is made of.",
    ),
    "starlette.background.BackgroundTask": (
        "a background task itself",
        "Queue it with add_task, or pass the function's arguments.",
    ),
    "starlette.applications.Starlette": (
        "the application, which a restart makes anew",
        "Import it in the task from the module that makes it.",
    ),
    "logging.Logger": ("a logger", "Call logging.getLogger(name) in the task."),
    "threading.Thread": ("a thread, which ends with this process", "Start it in the task."),
    "threading.Event": ("an event, which only this process can wait for", "Make it in the task."),
    "threading.Condition": ("a lock, which only this process can hold", "Make it at the top of the module."),
    "threading.Semaphore": ("a lock, which only this process can hold", "Make it at the top of the module."),
    "asyncio.mixins._LoopBoundMixin": (
        "bound to this process's event loop",
        "Make it in the task or at the top of the module.",
    ),
    "_asyncio.Future": ("a future, which only this process can wait for", "Await it first and pass what it gave."),
    "concurrent.futures._base.Future": (
        "a future, which only this process can wait for",
        "Wait for it first and pass its result.",
    ),
    "socket.socket": ("a connection, which ends with this process", "Open it in the task and pass the address."),
    "_socket.socket": ("a connection, which ends with this process", "Open it in the task and pass the address."),
    "_contextvars.ContextVar": ("a context variable", "Pass the value it has now."),
    "builtins.BaseException": (
        "an exception, whose traceback and cause belong to this process",
        "Pass str(error) or a model of what the task needs to know.",
    ),
    "pydantic.types._SecretBase": (
        "a secret, and secrets are not written to disk unasked",
        "Read it from the settings in the task, or pass get_secret_value() if it may be stored.",
    ),
    "builtins.memoryview": ("a view of memory that this process shares", "Pass bytes(view)."),
}

_BY_PACKAGE = {  # a value whose class is defined in one of these is their connection, session or row
    "sqlite3": "a database connection, which ends with this process",
    "apsw": "a database connection, which ends with this process",
    "psycopg": "a database connection, which ends with this process",
    "psycopg2": "a database connection, which ends with this process",
    "asyncpg": "a database connection, which ends with this process",
    "pymongo": "a database connection, which ends with this process",
    "motor": "a database connection, which ends with this process",
    "redis": "a database connection, which ends with this process",
    "sqlalchemy": "a database session, or an object that belongs to one",
    "sqlmodel": "a database session, or an object that belongs to one",
    "httpx": "an HTTP client or what it returned, which ends with this process",
    "aiohttp": "an HTTP client or what it returned, which ends with this process",
    "requests": "an HTTP client or what it returned, which ends with this process",
}
_ORMS = {"sqlalchemy", "django", "tortoise", "peewee", "pony"}  # users derive their rows from classes of these
_OF_ARRAYS = {"numpy", "pandas", "polars", "pyarrow", "torch", "PIL"}  # no answer to `==` that is true or false
_ARTICLES = ("a ", "an ", "the ")
_LOCKS = {"lock", "LockType", "RLock", "_RLock"}


def hopeless(value: Any) -> Refused | None:
    """The refusal of a value whose kind no annotation can save, or None."""
    cls = type(value)
    found = _reason(value, cls)
    if found is None:
        return None
    reason, remedy = found
    if not reason.startswith(_ARTICLES):
        return Refused(shown(cls), reason, remedy, hopeless=True)
    kind, _, why = reason.partition(", ")  # what people call it goes before what Python calls it
    if cls.__module__ != "builtins":
        kind += f" ({_name(cls)})"
    return Refused(kind, why, remedy, hopeless=True)


def is_orm(cls: type) -> bool:
    """Whether instances are rows of a database session, even where they are dataclasses or models too."""
    return hasattr(cls, "_sa_class_manager") or any(_package(base) in _ORMS for base in cls.__mro__[1:])


def unknown(cls: type) -> Refused:
    """The refusal of a class instance that neither this codec nor pydantic can bring back equal."""
    remedy = f"Annotate the parameter with a pydantic model or a dataclass and pass that instead of {cls.__name__}."
    if _package(cls) in _OF_ARRAYS:
        remedy = "Pass .tolist() of it, or save it to a file and pass the path."
    return Refused(shown(cls), "and nothing says how to write it down and read it back equal", remedy)


def _reason(value: Any, cls: type) -> tuple[str, str] | None:
    if isinstance(value, type):
        return "a class", "Pass its name or an enum member, and look the class up in the task."
    if isinstance(value, types.ModuleType):
        return "a module", "Import it in the task."
    if isinstance(value, (types.FunctionType, types.BuiltinFunctionType, types.MethodType)):
        what = "a lambda" if getattr(value, "__name__", "") == "<lambda>" else "a function"
        return f"{what}, which is code and not data", "Pass a name or an enum member and pick the function in the task."
    if cls.__name__ == "partial" and cls.__module__ == "functools":
        return "a function with arguments, which is code and not data", "Pass the arguments and call it in the task."
    if isinstance(value, (collections.abc.Awaitable, collections.abc.AsyncIterable)) and not hasattr(value, "read"):
        return "something to be awaited, which only this process can do", "Await it first and pass what it gave."
    for base in cls.__mro__:
        if (found := _BY_BASE.get(f"{base.__module__}.{base.__qualname__}")) is not None:
            return found
    if isinstance(value, collections.abc.Iterator):
        return "an iterator, which can be read only once", "Pass list(...) of it."
    if isinstance(value, collections.abc.MappingView):
        return "a view of a dict", "Pass list(...) of it."
    if cls.__name__ in _LOCKS and cls.__module__ in ("_thread", "threading"):
        return "a lock, which only this process can hold", "Make it at the top of the module."
    if (reason := _BY_PACKAGE.get(_package(cls))) is not None:
        return reason, "Open it in the task; of a row or a response pass the id or the values that the task needs."
    if is_orm(cls):
        return "an object that belongs to a database session", "Pass its id and load it in the task."
    if callable(getattr(value, "read", None)) and callable(getattr(value, "close", None)):
        return "an open file, which ends with this process", "Save it and pass the path, or pass the UploadFile itself."
    return None


def _package(cls: type) -> str:
    return cls.__module__.partition(".")[0]
