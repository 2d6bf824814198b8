"""What a program may say about a task: once for the function with `@task`, and for one call with `options`."""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, ParamSpec, TypeVar

from afterwards._domain.attempts import Backoff

P = ParamSpec("P")
R = TypeVar("R")

ATTRIBUTE = "__afterwards_task__"
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_LONGEST = 10 * 365 * 86_400.0  # seconds, of a backoff or a timeout: far beyond either, and a time the store can hold
_MOST = 1_000_000  # attempts
_HIGHEST = 2**31  # priority
_BACKOFF = Backoff()
_named: dict[str, Callable[..., object]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """How attempts of a function are made."""

    name: str | None = None  # instead of module:function, so that the function can move
    retries: int = 0  # further attempts after one that raised
    backoff: Backoff = _BACKOFF
    timeout: float | None = None  # seconds an attempt of an async function may take
    max_interruptions: int = 3  # so many attempts may die with their process before the task is quarantined
    queue: str = "default"
    priority: int = 0  # higher first


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """How one call differs from what its function says."""

    delay: float = 0.0  # seconds before the first attempt may start
    priority: int | None = None
    at_most_once: bool = False  # never again after an attempt that was interrupted
    on_error: Literal["continue", "stop"] = "continue"
    parallel: bool = False  # do not wait for the task before it in the same request


PLAIN = TaskOptions()
PLAIN_CALL = CallOptions()


def options_of(function: Callable[..., object]) -> TaskOptions:
    """Return what `@task` said about a function."""
    found: TaskOptions = getattr(function, ATTRIBUTE, PLAIN)
    return found


def named(name: str) -> Callable[..., object] | None:
    """Return the function that `@task(name=...)` gave this name."""
    return _named.get(name)


def task(
    *,
    name: str | None = None,
    retries: int = 0,
    backoff: float = 1.0,
    max_backoff: float = 3600.0,
    timeout: float | None = None,
    max_interruptions: int = 3,
    queue: str = "default",
    priority: int = 0,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Say how a function is run as a task. It stays the function it was; without this, any function works.

    Args:
        name: Stored instead of `module:function`, so that the function can be renamed or moved while tasks wait.
            Letters, digits, `_`, `.`, `-`; at most 100. The module must be imported when the program starts.
        retries: Attempts after the first that raised, from 0 to a million. Interrupted attempts are counted apart.
        backoff: Seconds before the first retry; doubled for each further one, with jitter of half the delay.
        max_backoff: The longest such delay in seconds, at most ten years.
        timeout: Seconds an attempt may take; `async def` only, because a thread cannot be stopped.
        max_interruptions: Attempts that may die with their process before the task is quarantined, from 1.
        queue: A label to find it by, 1 to 100 characters.
        priority: Higher is claimed first among what waits; a whole number between -2**31 and 2**31.

    Raises:
        ValueError: A value is out of its range, or the name belongs to another function.
    """
    _check(name, retries, backoff, max_backoff, timeout, max_interruptions, queue, priority)
    options = TaskOptions(
        name=name,
        retries=retries,
        backoff=Backoff(first=backoff, longest=max_backoff),
        timeout=timeout,
        max_interruptions=max_interruptions,
        queue=queue,
        priority=priority,
    )

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        shown = f"{function.__module__}:{function.__qualname__}"
        if timeout is not None and not inspect.iscoroutinefunction(function):
            raise ValueError(
                f"@task(timeout={timeout:g}) on {shown}: it is a plain `def`, which runs on a thread and cannot be "
                "stopped. Make it `async def`, or leave the timeout out."
            )
        if name is not None:
            _claim_name(name, function, shown)
        setattr(function, ATTRIBUTE, options)
        return function

    return decorate


def _check(
    name: Any,
    retries: Any,
    backoff: Any,
    max_backoff: Any,
    timeout: Any,
    max_interruptions: Any,
    queue: Any,
    priority: Any,
) -> None:
    named = name is None or (isinstance(name, str) and _NAME.fullmatch(name) is not None)
    longer = _is_seconds(max_backoff) and (not _is_seconds(backoff) or max_backoff >= backoff)
    fine = {
        f"name={name!r}: 1 to 100 letters, digits, `_`, `.` or `-`": named,
        f"retries={retries!r}: a whole number from 0 to {_MOST:,}": _is_whole(retries, 0, _MOST),
        f"backoff={backoff!r}: seconds, above 0": _is_seconds(backoff),
        f"max_backoff={max_backoff!r}: seconds, not below backoff": longer,
        f"timeout={timeout!r}: seconds, above 0, or None": timeout is None or _is_seconds(timeout),
        f"max_interruptions={max_interruptions!r}: a whole number from 1": _is_whole(max_interruptions, 1, _MOST),
        f"queue={queue!r}: 1 to 100 characters": isinstance(queue, str) and 0 < len(queue) <= 100,
        f"priority={priority!r}: a whole number": _is_whole(priority, 1 - _HIGHEST, _HIGHEST - 1),
    }
    for wanted, there in fine.items():
        if not there:
            raise ValueError(f"@task({wanted} is wanted here")


def _is_whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and least <= value <= most


def _is_seconds(value: Any) -> bool:
    return isinstance(value, (int, float)) and 0 < value <= _LONGEST


def _claim_name(name: str, function: Callable[..., Any], shown: str) -> None:
    other = _named.setdefault(name, function)
    if (other.__module__, other.__qualname__) != (function.__module__, function.__qualname__):
        raise ValueError(
            f"@task(name={name!r}) is used by {shown} and by {other.__module__}:{other.__qualname__}. "
            "Stored tasks could not tell them apart: give one of them another name."
        )
    _named[name] = function  # the same function, made again by a reload
