"""The times Afterwards lives by, behind one seam, so that tests can move them.

Two clocks, never mixed: the wall clock says when things happened, for people and for due times; the
boot clock says when a lease ends, because it cannot be set and does not stop while the machine sleeps.
"""

import asyncio
import os
import time
import uuid
from functools import cache
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """What the engine asks of time."""

    def now(self) -> int:
        """Return UTC microseconds since 1970."""
        ...

    def boot(self) -> int:
        """Return milliseconds since the machine started, sleep included."""
        ...

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        """Return when the event is set or the time has passed, whichever is first."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> int:
        """Return UTC microseconds since 1970."""
        return time.time_ns() // 1000

    def boot(self) -> int:
        """Return milliseconds since the machine started, sleep included."""
        return time.clock_gettime_ns(_BOOT_CLOCK) // 1_000_000

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        """Return when the event is set or the time has passed, whichever is first."""
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return


# macOS has no CLOCK_BOOTTIME; its CLOCK_MONOTONIC counts sleep, as CLOCK_BOOTTIME does on Linux.
_BOOT_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


@cache
def boot_id() -> str:
    """Name this start of the machine: a lease of another boot has ended, whatever its number says."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except FileNotFoundError:  # not Linux: the hour the machine started, which a clock adjustment will not move far
        started = round((time.time() - time.clock_gettime(_BOOT_CLOCK)) / 3600)
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{os.uname().nodename}/{started}"))
