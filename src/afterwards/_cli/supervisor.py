"""Keeps several processes of one program running, and ends them together.

Each is started anew rather than forked, so it imports Afterwards before the program. One that dies is replaced, after
a pause that doubles while it keeps dying. A socket pair ties each to this process: over it a child says that it is
ready, and its end tells the child that nobody looks after it any more.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from asyncio.subprocess import Process

log = logging.getLogger("afterwards")

FIRST_PAUSE = 0.5  # seconds until a process that died is replaced; doubled for each that died soon after its start
LONGEST_PAUSE = 30.0  # seconds
STEADY = 60.0  # seconds that a process lives before its death counts as the first again
READY = b"r"


class Supervisor:
    """Runs a number of children until told to stop."""

    def __init__(self, number: int, listener: socket.socket | None) -> None:
        self._number = number
        self._listener = listener
        self._children: dict[int, Process] = {}  # by place
        self._stopping = asyncio.Event()
        self._failed = False  # a child could not even start: the program or its settings are wrong

    async def run(self) -> int:
        """Return the exit status: 0 after a stop that was asked for, 1 when the program cannot be started."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._pass_on)
        await asyncio.gather(*(self._keep(place) for place in range(self._number)))
        return 1 if self._failed else 0

    def _pass_on(self) -> None:
        """Tell the children to stop, each time we are told: they end at once the second time."""
        self._stopping.set()
        if self._listener is not None:
            self._listener.close()
        for child in self._children.values():
            if child.returncode is None:
                child.send_signal(signal.SIGTERM)

    async def _keep(self, place: int) -> None:
        loop = asyncio.get_running_loop()
        pause, was_ready = FIRST_PAUSE, False
        while not self._stopping.is_set():
            started = loop.time()
            status, ready = await self._one(place)
            was_ready = was_ready or ready
            if self._stopping.is_set():
                return
            if status > 0 and not was_ready:
                self._failed = True
                self._pass_on()
                return
            pause = FIRST_PAUSE if loop.time() - started > STEADY else min(pause * 2, LONGEST_PAUSE)
            log.error("a process of this program %s; another one starts in %g s", _how(status), pause)
            try:
                await asyncio.wait_for(self._stopping.wait(), pause)
            except TimeoutError:
                continue

    async def _one(self, place: int) -> tuple[int, bool]:
        """Run one child to its end; return its exit status and whether it was ready."""
        ours, theirs = socket.socketpair()
        descriptors = [theirs.fileno(), *([self._listener.fileno()] if self._listener is not None else [])]
        with ours, theirs:
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # the program's own folder comes first on the path, as it was named; not the one we are in
                "-m",
                "afterwards._cli.child",
                *map(str, descriptors),
                pass_fds=descriptors,
                process_group=0,  # the terminal's Ctrl+C goes to us alone, and we pass it on once
            )
            self._children[place] = child
            theirs.close()
            if self._stopping.is_set():
                child.send_signal(signal.SIGTERM)
            status = await child.wait()
            ours.setblocking(False)
            try:
                ready = ours.recv(1) == READY
            except OSError:
                ready = False
        return status, ready


def _how(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


def supervise(number: int, listener: socket.socket | None) -> int:
    """Run children until told to stop; return the exit status."""

    async def main() -> int:
        return await Supervisor(number, listener).run()

    log.info("process %d looks after %d processes", os.getpid(), number)
    return asyncio.run(main())
