"""The functions this program can run, by the names that stored tasks know them by.

A function gets in when it is handed to `add_task`, or at start-up when its signed name is found in the store and
leads to something importable. Rows of other names wait for a program that has them.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from afterwards._domain.functions import is_async, name_of, resolve
from afterwards._domain.options import TaskOptions, named, options_of
from afterwards._domain.signing import Signer
from afterwards._engine.lanes import Lane
from afterwards.errors import UnknownFunction, UnstorableFunction

log = logging.getLogger("afterwards.engine")

Function = Callable[..., object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A function this program can run."""

    name: str
    function: Function
    options: TaskOptions
    lane: Lane


class Registry:
    """Finds functions by name and names by function. Safe from any thread."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self._lock = threading.Lock()
        self._by_function: dict[Function, Known] = {}
        self._by_name: dict[str, Known] = {}
        self._names: dict[Lane, tuple[str, ...]] = dict.fromkeys(Lane, ())
        self._missing: set[str] = set()
        self._stored: set[str] = set()  # names whose row in the store has been seen or sent

    def of(self, function: Function) -> Known:
        """Return what is known of a function handed to `add_task`.

        Raises:
            UnstorableFunction: No restarted program could find it again.
        """
        try:
            found = self._by_function.get(function)
        except TypeError:  # an object that cannot be a key of a dictionary has a __call__ of its own at best
            raise UnstorableFunction(
                function=f"a value of type {type(function).__qualname__}",
                reason="it cannot be hashed, so it cannot be told from others",
                remedy="Pass a function defined with `def`.",
            ) from None
        return self._add(function) if found is None else found

    def named(self, name: str) -> Known | None:
        """Return the function of a name, None when this program does not have it."""
        return self._by_name.get(name)

    def names(self, lane: Lane) -> tuple[str, ...]:
        """Return every name that can be run on a lane."""
        return self._names[lane]

    def all_names(self) -> tuple[str, ...]:
        """Return every name that can be run."""
        return tuple(self._by_name)

    def missing(self) -> tuple[str, ...]:
        """Return stored names that this program does not have."""
        return tuple(sorted(self._missing))

    def unsaved(self, names: Sequence[str]) -> tuple[tuple[str, str], ...]:
        """Return (name, signature) of those names that the store has not been told of by this process."""
        if self._stored.issuperset(names):
            return ()
        fresh = [name for name in names if name not in self._stored]
        return tuple((name, self._signer.function(name)) for name in dict.fromkeys(fresh))

    def saved(self, functions: Iterable[tuple[str, str]]) -> None:
        """Note that the store has these names now."""
        self._stored.update(name for name, _ in functions)

    def is_new(self, name: str) -> bool:
        """Tell whether `learn` has not looked for a stored name yet."""
        return name not in self._stored and name not in self._missing

    def learn(self, stored: Iterable[tuple[str, str]]) -> tuple[str, ...]:
        """Look for the functions of stored names and return the names that are new here.

        A row with a wrong signature is never imported. What cannot be found stays missing until the program changes.
        """
        new = []
        for name, signature in stored:
            if not self.is_new(name):
                continue
            if signature != self._signer.function(name):
                log.error(
                    "tasks of %r wait, because the signature of that name in the database is not of this data "
                    "directory's key: the row was written by hand, or the file `key` was replaced. "
                    "Put the right key back.",
                    name,
                )
                self._missing.add(name)
                continue
            if name in self._by_name or self._find(name):
                self._stored.add(name)
                new.append(name)
        return tuple(new)

    def _find(self, name: str) -> bool:
        try:
            function = named(name) if ":" not in name else resolve(name)
        except UnknownFunction as error:
            log.warning("this program lacks a function of this data directory; any task of it waits here: %s", error)
            self._missing.add(name)
            return False
        except BaseException:  # whatever importing it raised: other functions' tasks must not wait for it too
            log.exception("importing %s failed; any task of it waits here", name)
            self._missing.add(name)
            return False
        if function is None:
            log.warning(
                "this program lacks a function of this data directory; any task of it waits here: no module imported "
                "at start has @task(name=%r). Import it at the top of the program, or run the program that has it.",
                name,
            )
            self._missing.add(name)
            return False
        self._add(function, name)
        return True

    def _add(self, function: Function, name: str | None = None) -> Known:
        options = options_of(function)
        known = Known(
            name=name or options.name or name_of(function),
            function=function,
            options=options,
            lane=Lane.LOOP if is_async(function) else Lane.THREAD,
        )
        with self._lock:
            self._by_function[function] = known
            self._by_name[known.name] = known
            self._missing.discard(known.name)
            for lane in Lane:
                self._names[lane] = tuple(each.name for each in self._by_name.values() if each.lane is lane)
        return known
