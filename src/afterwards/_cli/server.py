"""One process that serves or works, on uvicorn: a worker is a server that listens nowhere.

So a program's own start-up and shutdown run in both, and its tasks find the same world in each. From the moment it is
told to stop, one limit counts for everything: running requests and running tasks get `drain` seconds together.
"""

import errno
import logging
import math
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import uvicorn

from afterwards._cli import logs
from afterwards._cli.launch import Current, Launch, protocol
from afterwards.errors import ProgramRefused
from afterwards.server import HttpProtocol

log = logging.getLogger("afterwards")

FACTORY = "afterwards._cli.launch:app"
BACKLOG = 2048
LEAST = 1  # seconds that open connections get, also under --reload, where tasks get none


class Config(uvicorn.Config):
    """uvicorn's settings, with the program's own protocol once the program is there."""

    def load(self) -> None:
        """Import the program, and then its protocol, so that both are found in the same place."""
        super().load()
        own = protocol(Launch.published())
        if own is not None:
            self.http_protocol_class = own


def config(launch: Launch, *, reload: bool = False) -> uvicorn.Config:
    """Return uvicorn's settings for our factory; this sets up logging, too."""
    return Config(
        FACTORY,
        factory=True,
        reload=reload,
        reload_dirs=[launch.app_dir] if reload else None,
        log_config=logs.settings(launch.log_format),
        access_log=launch.access_log,
        root_path=launch.root_path,
        forwarded_allow_ips=launch.forwarded_allow_ips,
        backlog=BACKLOG,
        http=HttpProtocol,  # type: ignore[arg-type]  # any class that uvicorn can make connections of
    )


class Server(uvicorn.Server):
    """uvicorn's server, which tells the engine of a stop before it waits for connections."""

    def __init__(self, launch: Launch, *, reload: bool = False, ready: Callable[[], None] | None = None) -> None:
        super().__init__(config(launch, reload=reload))
        self._launch = launch
        self._ready = ready
        self._signals: set[int] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the program, which has been imported, then say that it is ready."""
        if Current.installation is not None:
            self._tell(sockets or [], Current.installation.data.absolute())
        await super().startup(sockets=sockets)
        if self.started and self._ready is not None:
            self._ready()

    def _tell(self, sockets: list[socket.socket], data: Path) -> None:
        if sockets:
            log.info("%s starts on %s, with its tasks in %s", self._launch.target, url(sockets[0]), data)
        else:
            log.info("a worker of %s starts, on the tasks in %s", self._launch.target, data)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let go of connections and tasks within the limit."""
        if Current.installation is not None:
            self.config.timeout_graceful_shutdown = max(LEAST, math.ceil(Current.installation.retire()))
        await super().shutdown(sockets=sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End in order at the first signal, at once when it comes again.

        Two different ones are no repetition: a reloader passes SIGTERM on after the terminal's SIGINT.
        """
        if sig in self._signals:
            os._exit(128 + sig)
        self._signals.add(sig)
        super().handle_exit(signal.Signals(sig), frame)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; connections wait in it until the program is ready.

    Raises:
        ProgramRefused: The address cannot be had.
    """
    where = f"port {port} of {host}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        raise ProgramRefused(
            program=where, reason=f"{host!r} is not an address or a name of one", remedy="Name another with --host."
        ) from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        reason, remedy = f"{error.strerror}", "Choose another address with --host and --port."
        if error.errno == errno.EADDRINUSE:
            reason, remedy = "another program listens there", "Stop that one, or choose another port with --port."
        elif error.errno == errno.EACCES:
            reason, remedy = "this user may not listen there", "Choose a port from 1024 with --port."
        elif error.errno == errno.EADDRNOTAVAIL:
            reason, remedy = "this machine does not have that address", "Choose one that it has with --host."
        raise ProgramRefused(program=where, reason=reason, remedy=remedy) from error
    listener.set_inheritable(True)
    return listener


def url(listener: socket.socket) -> str:
    """Return the address a browser takes."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
