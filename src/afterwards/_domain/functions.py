"""Names functions and classes so that a restarted program, or another process, finds them again.

A name is `module:qualname`. It is given only where following it leads to the very same object now;
everything else is refused with the reason and the remedy. What `python main.py` defines has the module
name `main`, under which a worker imports it, and is found in the running program all the same.
Whether a stored name may be called at all is not decided here: the rows are signed.
"""

import importlib
import importlib.machinery
import inspect
import os
import re
import sys
from collections.abc import Callable
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType, NoneType
from typing import Any, NoReturn

from afterwards.errors import UnknownFunction, UnstorableFunction

# A module may have a hyphen (`uvicorn my-app:app` works too); what is in it is a Python identifier.
_NAME = re.compile(r"[\w-]+(?:\.[\w-]+)*:[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_MAIN = ("__main__", "__mp_main__")  # the second: the same file in a process that multiprocessing spawned
_NOWHERE = ModuleType("nowhere")
_script_names: dict[str, str] = {}  # by file; finding one costs tens of microseconds


def name_of(function: Callable[..., object]) -> str:
    """`module:qualname`, by which a restart finds the function.

    Raises:
        UnstorableFunction: Following the name would not lead back to this object.
    """
    if type(function) is FunctionType:  # nearly every call: a `def` at the top of an imported module
        module_name, qualname = function.__module__, function.__qualname__
        module = sys.modules.get(module_name, _NOWHERE)
        if (
            vars(module).get(qualname) is function
            and module_name not in _MAIN
            and getattr(module, "__spec__", None) is not None
            and _NAME.fullmatch(name := f"{module_name}:{qualname}")
        ):
            return name
    _refuse_what_has_no_name(function)
    try:
        return _name(function)
    except _Unnamed as unnamed:
        raise UnstorableFunction(function=_shown(function), reason=unnamed.reason, remedy=unnamed.remedy) from None


def class_name(cls: type) -> str | None:
    """The name of a class by the same rules, or None where following it would not lead back to it."""
    try:
        return _name(cls)
    except _Unnamed:
        return None


def resolve(name: str) -> Callable[..., object]:
    """The function behind a name, its module imported where that has not happened yet.

    Raises:
        UnknownFunction: The module or the function is not there, importing raised, or it cannot be called.
    """
    found = _follow(name)
    if not callable(found):
        raise UnknownFunction(
            function=name,
            reason=f"the name leads to a value of type {type(found).__qualname__}, which cannot be called",
            remedy="Give the function back its name; until then the task waits.",
        )
    return found


def resolve_class(name: str) -> type:
    """The class behind a name. Raises UnknownFunction as `resolve` does."""
    found = _follow(name)
    if not isinstance(found, type):
        raise UnknownFunction(
            function=name, reason="the name does not lead to a class", remedy="Give the class back its name."
        )
    return found


class _Unnamed(Exception):
    """Why an object has no name."""

    def __init__(self, reason: str, remedy: str) -> None:
        self.reason, self.remedy = reason, remedy


def _name(target: Any) -> str:
    module_name, qualname = _parts(target)
    if module_name in _MAIN:
        module_name, module = _main_name(target), sys.modules[module_name]
    elif (found := sys.modules.get(module_name)) is None or getattr(found, "__spec__", None) is None:
        raise _Unnamed(
            f"its module {module_name!r} was made while the program ran, so a restart cannot import it",
            "Define it in a file that can be imported.",
        )
    else:
        module = found
    name = f"{module_name}:{qualname}"
    if not _NAME.fullmatch(name):
        raise _Unnamed(f"{name!r} is not a name that can be imported", "Give the file and the function plain names.")
    try:
        reached = _walk(module, qualname)
    except AttributeError as missing:
        raise _Unnamed(
            f"{name} does not exist: {missing}",
            f"Define it there, or set its __qualname__ to where it is in {module_name}.",
        ) from None
    if reached is not target and not (isinstance(target, (MethodType, BuiltinFunctionType)) and reached == target):
        raise _Unnamed(
            f"{name} leads to another object: a decorator replaced it, or the name was assigned again",
            f"Pass the object that {name} is now, or let the decorator use functools.wraps and be applied with @.",
        )
    return name


def _parts(target: Any) -> tuple[str, str]:
    """Where an object says that it was defined."""
    owner = getattr(target, "__self__", None)
    if isinstance(owner, type):  # a classmethod: of the class it was taken from, not of the base that defines it
        return owner.__module__, f"{owner.__qualname__}.{target.__name__}"
    qualname = getattr(target, "__qualname__", None)
    if not isinstance(qualname, str):  # an instance; one that its own module keeps under a name is as good as a `def`
        module = sys.modules.get(type(target).__module__)
        name = next((key for key, value in list(vars(module).items()) if value is target), None) if module else None
        if name is None:
            raise _Unnamed(
                "it is an instance with a __call__ method, and a restart would not have this instance",
                "Pass a function defined with `def` and hand it the instance's data as arguments.",
            )
        return type(target).__module__, name
    module_name = getattr(target, "__module__", None) or getattr(
        getattr(target, "__objclass__", None), "__module__", None
    )  # `str.upper` names its module only through its class
    if not isinstance(module_name, str):
        raise _Unnamed("it does not say which module it comes from", "Wrap it in a `def` of your own.")
    return module_name, qualname


def _refuse_what_has_no_name(target: Any) -> None:
    """Refuse what can be told from the object alone."""

    def refuse(reason: str, remedy: str) -> NoReturn:
        raise UnstorableFunction(function=_shown(target), reason=reason, remedy=remedy)

    if inspect.isawaitable(target) or inspect.isgenerator(target) or inspect.isasyncgen(target):
        called = getattr(target, "__name__", "function")
        refuse(
            "it is what calling the function returned, not the function",
            f"Write add_task({called}, ...) with the arguments after a comma, not add_task({called}(...)).",
        )
    if isinstance(target, str):
        refuse("it is text, not a function", "Write add_task(function, ...) with the function itself, not its name.")
    if not callable(target):
        refuse(
            "it cannot be called; perhaps the function was called already and this is its result",
            "Write add_task(function, ...) with the arguments after a comma, not add_task(function(...)).",
        )
    if isinstance(target, partial):
        refuse(
            "it is a functools.partial, which has no name by which a restart could find it",
            f"Pass the arguments to add_task: add_task({_bare(target.func)}, ...).",
        )
    owner = getattr(target, "__self__", None)
    if isinstance(target, (MethodType, BuiltinFunctionType)) and not isinstance(owner, (type, ModuleType, NoneType)):
        refuse(
            f"it is bound to an instance of {type(owner).__qualname__}, which a restart would not have",
            "Pass a function and the data of the instance as arguments, or make it a classmethod or staticmethod.",
        )
    qualname = str(getattr(target, "__qualname__", ""))
    if qualname.endswith("<lambda>"):
        refuse(
            "a lambda has no name by which a restart could find it",
            "Write it as a `def` at the top of a module.",
        )
    if "<locals>" in qualname:
        refuse(
            f"it was made inside {qualname.split('.<locals>')[0]}, so a restart cannot find it",
            "Move it to the top of a module and pass what it used as arguments; "
            "if a decorator made it, use functools.wraps in the decorator.",
        )


def _shown(target: Any) -> str:
    """How an error names an object: never by its repr, which may be long or secret."""
    qualname = getattr(target, "__qualname__", None)
    if isinstance(target, partial):
        return f"functools.partial of {_bare(target.func)}"
    if not isinstance(qualname, str):
        return f"a value of type {type(target).__qualname__}"
    module = getattr(target, "__module__", None)
    return f"{module}:{qualname}" if isinstance(module, str) else qualname


def _bare(target: Any) -> str:
    name = getattr(target, "__name__", "function")
    return name if isinstance(name, str) and name.isidentifier() else "function"


def _follow(name: str) -> object:
    if len(name) > 1000 or not _NAME.fullmatch(name):
        raise UnknownFunction(
            function=repr(name[:100]),
            reason="a name looks like `module:function`, and nothing else is imported",
            remedy="Cancel the task.",
        )
    module_name, _, qualname = name.partition(":")
    module = sys.modules.get(module_name)
    if module is None and module_name == _running_main():
        module = sys.modules["__main__"]
    if module is None:
        module = _import(module_name, name)
    try:
        return _walk(module, qualname)
    except AttributeError as missing:
        raise UnknownFunction(
            function=name,
            reason=f"{missing}",
            remedy="Bring it back under this name; until then it waits.",
        ) from None


def _walk(module: ModuleType, qualname: str) -> object:
    found: object = module
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


def _import(module_name: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as missing:
        if missing.name is not None and f"{module_name}.".startswith(f"{missing.name}."):
            raise UnknownFunction(
                function=name,
                reason=f"there is no module {missing.name!r} on the path of this program",
                remedy="Start it in the directory it was started in before, or bring the module back.",
            ) from None
        raise _import_failed(name, module_name, missing) from missing
    except (Exception, SystemExit) as raised:  # whatever user code raises, the function is not there
        raise _import_failed(name, module_name, raised) from raised


def _import_failed(name: str, module_name: str, raised: BaseException) -> UnknownFunction:
    return UnknownFunction(
        function=name,
        reason=f"importing {module_name} raised {type(raised).__name__}: {raised}",
        remedy="Repair the module; until then the task waits.",
    )


def _main_name(target: Any) -> str:
    """The name under which another process imports what the running program defines, or _Unnamed."""
    code = getattr(target, "__code__", None)
    name = None if code is not None and code.co_filename.startswith("<") else _running_main()
    if name is None:
        raise _Unnamed(
            "it is defined in __main__ (a prompt, a notebook, `python -c`, or a script whose directory is not on "
            "sys.path), which a restart cannot import",
            "Move it to a module of its own and import it from there.",
        )
    return name


def _running_main() -> str | None:
    """The importable name of the running program, if it has one."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:  # python -m package.module
        return None if spec.name == "__main__" else str(spec.name)
    file = getattr(main, "__file__", None)
    if not isinstance(file, str):
        return None
    if file not in _script_names:
        stem = os.path.splitext(os.path.basename(file))[0]
        if not _is_found_as(stem, file):
            return None
        _script_names[file] = stem
    return _script_names[file]


def _is_found_as(stem: str, file: str) -> bool:
    """Whether `import stem` in another process of this program would run this very file."""
    if not re.fullmatch(r"[\w-]+", stem) or stem in sys.builtin_module_names:
        return False
    spec = importlib.machinery.PathFinder.find_spec(stem)
    imported = getattr(sys.modules.get(stem), "__file__", file)
    try:
        return spec is not None and all(os.path.samefile(found, file) for found in (spec.origin or "", imported or ""))
    except OSError:
        return False  # one of them is not a file


def is_async(function: Callable[..., object]) -> bool:
    """Tell whether calling it gives a coroutine; an object's `__call__` may, too."""
    call = getattr(function, "__call__", None)  # noqa: B004 - not whether there is one: which one it is
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)
