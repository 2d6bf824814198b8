"""A function is stored by the name under which a restart finds it, or refused with the remedy."""

import asyncio
import functools
import json
import os
import shutil
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from afterwards._domain.functions import class_name, name_of, resolve
from afterwards.errors import UnknownFunction, UnstorableFunction

HERE = __name__


def work() -> str:
    return "done"


async def async_work() -> None: ...


class Service:
    def method(self) -> None: ...

    @classmethod
    def made(cls) -> type:
        return cls

    @staticmethod
    def free() -> None: ...

    def __call__(self) -> None: ...


class Special(Service): ...


singleton = Service()  # kept under a name of its own module, as shutil.rmtree is from Python 3.14 on


def keeping(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


def losing(function):
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


@keeping
def decorated() -> None: ...


@losing
def nameless() -> None: ...


@functools.lru_cache
def cached() -> None: ...


anonymous = lambda: None  # noqa: E731


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (work, f"{HERE}:work"),
        (async_work, f"{HERE}:async_work"),
        (decorated, f"{HERE}:decorated"),
        (cached, f"{HERE}:cached"),
        (Service.free, f"{HERE}:Service.free"),
        (Service.made, f"{HERE}:Service.made"),
        (Special.made, f"{HERE}:Special.made"),
        (singleton, f"{HERE}:singleton"),
        (Service, f"{HERE}:Service"),
        (os.remove, "posix:remove"),
        (shutil.rmtree, "shutil:rmtree"),
        (time.sleep, "time:sleep"),
        (json.dumps, "json:dumps"),
        (str.upper, "builtins:str.upper"),
    ],
)
def test_a_function_is_found_again_by_its_name(function, name):
    """Builtins and what the standard library offers are tasks as good as one's own."""
    assert name_of(function) == name
    assert resolve(name) == function


def test_a_classmethod_keeps_the_class_it_was_taken_from():
    assert resolve(name_of(Special.made))() is Special


def refusal(function: object) -> str:
    with pytest.raises(UnstorableFunction) as refused:
        name_of(function)  # type: ignore[arg-type]
    return str(refused.value)


def inner():
    def closure() -> None: ...

    return closure


@pytest.mark.parametrize(
    ("function", "reason", "remedy"),
    [
        (anonymous, "a lambda has no name", "Write it as a `def` at the top of a module"),
        (inner(), "it was made inside inner", "Move it to the top of a module and pass what it used as arguments"),
        (nameless, "it was made inside losing", "use functools.wraps in the decorator"),
        (Service().method, "bound to an instance of Service", "Pass a function and the data of the instance"),
        ([].append, "bound to an instance of list", "Pass a function"),
        (Service(), "an instance with a __call__ method", "Pass a function defined with `def`"),
        (functools.partial(work, 1), "a functools.partial", "Pass the arguments to add_task: add_task(work, ...)"),
        (decorated.__wrapped__, "leads to another object: a decorator replaced it", "functools.wraps"),
        (None, "perhaps the function was called already", "Write add_task(function, ...)"),
        ("work", "it is text, not a function", "the function itself, not its name"),
        (7, "perhaps the function was called already", "Write add_task(function, ...)"),
    ],
)
def test_a_function_that_a_restart_cannot_find_is_refused(function, reason, remedy):
    """The endpoint hears it while it can still say no to its client."""
    message = refusal(function)

    assert reason in message
    assert remedy in message


def test_a_coroutine_instead_of_its_function_is_named_as_that_mistake():
    """`add_task(f())` is what everybody writes once."""
    coroutine = async_work()

    message = refusal(coroutine)
    coroutine.close()

    assert "it is what calling the function returned" in message
    assert "Write add_task(async_work, ...)" in message


async def test_a_future_is_refused_like_a_coroutine():
    future = asyncio.get_running_loop().create_future()

    assert "it is what calling the function returned" in refusal(future)


def test_a_function_of_a_module_made_at_run_time_is_refused():
    module = types.ModuleType("made_at_run_time")
    exec("def f(): ...", vars(module))
    sys.modules["made_at_run_time"] = module
    try:
        message = refusal(module.f)
    finally:
        del sys.modules["made_at_run_time"]

    assert "'made_at_run_time' was made while the program ran" in message


def test_a_function_whose_name_is_gone_is_refused():
    def gone() -> None: ...

    gone.__qualname__ = "gone"

    message = refusal(gone)

    assert f"{HERE}:gone does not exist" in message


def test_the_value_of_a_refused_function_is_not_in_the_message():
    """A partial or an instance can hold a password."""
    assert "hunter2" not in refusal(functools.partial(work, "hunter2"))


@pytest.mark.parametrize(
    "name",
    ["", ":", "os", "os:", ":system", "os:system()", "../evil:f", "/tmp/evil:f", "os :system", "os:a b", "os:1",
     "a..b:c", ".a:b", "os:path;system", "os:system\n", "os\x00:f", "a:" + "b" * 2000],
)  # fmt: skip
def test_an_odd_name_imports_nothing(name, monkeypatch):
    """A damaged row must not make the worker look for modules."""
    imported = []
    monkeypatch.setattr("importlib.import_module", imported.append)

    with pytest.raises(UnknownFunction, match="a name looks like `module:function`"):
        resolve(name)

    assert imported == []


def test_what_is_missing_is_told_apart(tmp_path, monkeypatch):
    """Whoever reads it must know whether to fix the path, the code or an installation."""
    (tmp_path / "breaks_on_import.py").write_text("raise ValueError('no settings')\n")
    (tmp_path / "leaves_on_import.py").write_text("import sys; sys.exit(3)\n")
    (tmp_path / "needs_another.py").write_text("import surely_not_installed\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    for name, reason in {
        "surely_not_there:f": "there is no module 'surely_not_there' on the path",
        "json.surely_not_there:f": "there is no module 'json.surely_not_there' on the path",
        "json:surely_not_there": "has no attribute 'surely_not_there'",
        "breaks_on_import:f": "importing breaks_on_import raised ValueError: no settings",
        "leaves_on_import:f": "importing leaves_on_import raised SystemExit: 3",
        "needs_another:f": "importing needs_another raised ModuleNotFoundError: No module named 'surely_not",
        "os:sep": "a value of type str, which cannot be called",
    }.items():
        with pytest.raises(UnknownFunction) as unknown:
            resolve(name)
        assert str(unknown.value).startswith(f"{name} cannot be found in this program: ")
        assert reason in str(unknown.value)


def test_a_module_with_a_hyphen_is_found(tmp_path, monkeypatch):
    """`uvicorn my-app:app` works, so its functions are tasks too."""
    (tmp_path / "my-app.py").write_text("def f(): return 7\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    function = resolve("my-app:f")

    assert function() == 7
    assert name_of(function) == "my-app:f"


def test_a_class_is_named_by_the_same_rules():
    class Local: ...

    assert class_name(Service) == f"{HERE}:Service"
    assert class_name(Local) is None


PROGRAM = """
from afterwards._domain.functions import name_of, resolve
from afterwards._domain.values import decode_result, encode_result
from afterwards.errors import UnstorableFunction
from pydantic import BaseModel

class Item(BaseModel):
    a: int

def work():
    return "worked"

def report():
    try:
        print(name_of(work), resolve(name_of(work)) is work, decode_result(encode_result(Item(a=1), "x")) == Item(a=1))
    except UnstorableFunction as refused:
        print(refused)

if __name__ == "__main__":
    report()
"""


def run(*arguments: object, cwd: Path, stdin: str = "") -> str:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    return done.stdout.strip()


def test_a_script_names_its_functions_as_another_process_imports_them(tmp_path):
    """`python main.py` with `uvicorn.run(app)` inside, and a worker that imports `main`."""
    (tmp_path / "shop_main.py").write_text(PROGRAM)

    assert run("shop_main.py", cwd=tmp_path) == "shop_main:work True True"
    assert run(tmp_path / "shop_main.py", cwd=Path("/")) == "shop_main:work True True"
    worker = "from afterwards._domain.functions import resolve; print(resolve('shop_main:work')())"
    assert run("-c", worker, cwd=tmp_path) == "worked"


def test_a_module_run_with_dash_m_is_named_by_its_path(tmp_path):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "__main__.py").write_text(PROGRAM)
    (tmp_path / "shop" / "server.py").write_text(PROGRAM)

    assert run("-m", "shop.server", cwd=tmp_path) == "shop.server:work True True"
    assert run("-m", "shop", cwd=tmp_path) == "shop.__main__:work True True"


def test_a_spawned_process_gives_the_same_names(tmp_path):
    """What uvicorn's `workers=4` does: each worker runs the script again as `__mp_main__`."""
    spawn = "import multiprocessing as m; p = m.get_context('spawn').Process(target=report); p.start(); p.join()"
    (tmp_path / "shop_main.py").write_text(PROGRAM.replace("    report()", "    " + spawn))

    assert run("shop_main.py", cwd=tmp_path) == "shop_main:work True True"


@pytest.mark.parametrize("arguments", [("-c", PROGRAM), ("-",)], ids=["dash c", "prompt"])
def test_a_program_without_a_file_is_told_to_make_one(arguments, tmp_path):
    said = run(*arguments, cwd=tmp_path, stdin=PROGRAM)

    assert said.startswith("__main__:work cannot be a stored task: it is defined in __main__")
    assert said.endswith("Move it to a module of its own and import it from there.")


def test_a_script_that_hides_behind_another_module_is_refused(tmp_path):
    """`import json` in a worker would give the standard library's module, not this script."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "json.py").write_text(PROGRAM)

    assert "which a restart cannot import" in run("-P", tmp_path / "app" / "json.py", cwd=tmp_path)
