"""What a program says with `Afterwards(...)`: refused at once where it means nothing, with what would do."""

import os
import sys
from datetime import timedelta
from typing import Any

from afterwards._domain.retention import Keep
from afterwards._web.settings import Uploads
from afterwards.errors import SettingRefused


def check_options(
    *,
    prefix: Any,
    concurrency: Any,
    threads: Any,
    drain: Any,
    keep: Any,
    files: Any,
    uploads: Any,
) -> None:
    """Refuse what `Afterwards(...)` cannot use.

    Raises:
        ValueError, TypeError: With what was given, what is wanted, and an example of it.
    """
    given: list[tuple[str, Any, bool, str]] = [
        ("prefix", prefix, isinstance(prefix, str) and prefix.startswith("/"), 'a path, such as "/afterwards",'),
        ("concurrency", concurrency, _is_count(concurrency), "a whole number from 1, such as 100,"),
        ("threads", threads, _is_count(threads), "a whole number from 1, such as 40,"),
        ("drain", drain, drain is None or _is_seconds(drain), "a number of seconds from 0, such as 10,"),
        ("files", files, files in ("open", "signed"), '"open" or "signed"'),
    ]
    wanted = "a timedelta longer than nothing, such as timedelta(days=7), or Keep(...),"
    kept = keep is None or isinstance(keep, Keep) or (isinstance(keep, timedelta) and keep > timedelta(0))
    for name, value, fine, what in (*given, ("keep", keep, kept, wanted)):
        if not fine:
            raise ValueError(f"Afterwards({name}={value!r}): {what} is wanted here")
    if uploads is not None and not isinstance(uploads, Uploads):
        raise TypeError(
            f'Afterwards(uploads={uploads!r}): Uploads(...), such as Uploads(max_file="10 MB"), is wanted '
            f"here, not {type(uploads).__name__}"
        )


def seconds_to_drain(asked: float | None) -> float:
    """Return what running tasks get at a stop. A reload must not wait: the new process runs again what is given back.

    Raises:
        SettingRefused: The environment says something that is no number of seconds.
    """
    if asked is not None:
        return asked
    if (said := os.environ.get("AFTERWARDS_DRAIN")) is not None:
        try:
            seconds = float(said)
        except ValueError:
            seconds = -1.0
        if not seconds >= 0:
            problem = "seconds from 0 are wanted here, such as 10"
            raise SettingRefused(variable="AFTERWARDS_DRAIN", value=said, problem=problem)
        return seconds
    return 0.0 if "--reload" in sys.argv else 10.0


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_seconds(value: Any) -> bool:
    return isinstance(value, int | float) and value >= 0
