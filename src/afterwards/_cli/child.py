"""One of several processes that a supervisor keeps.

It is started as `python -m afterwards._cli.child TIE [LISTENER]`, with the descriptors of two sockets.
"""

import os
import signal
import socket
import sys
import threading

from afterwards._cli.launch import Launch
from afterwards._cli.server import Server
from afterwards._cli.supervisor import READY


def main(arguments: list[str]) -> None:
    """Serve or work until told to stop, or until the supervisor is gone."""
    tie, *listeners = (socket.socket(fileno=int(one)) for one in arguments)
    threading.Thread(target=_watch, args=(tie,), name="afterwards-tie", daemon=True).start()
    launch = Launch.published()
    sys.argv = ["afterwards", launch.command, launch.target]
    Server(launch, ready=lambda: _tell(tie)).run(sockets=listeners)


def _tell(tie: socket.socket) -> None:
    try:
        tie.send(READY)
    except OSError:  # the supervisor has ended; _watch stops us
        return


def _watch(tie: socket.socket) -> None:
    try:
        tie.recv(1)  # nothing is ever sent: it returns when the supervisor has ended
    except ConnectionResetError:  # killed before it read that we are ready
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main(sys.argv[1:])
