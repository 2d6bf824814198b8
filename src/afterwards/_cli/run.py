"""`afterwards run` and `afterwards worker`: one process, several, or one that is started anew when files change."""

import socket

from uvicorn.supervisors import ChangeReload

from afterwards._cli import logs
from afterwards._cli.launch import Launch
from afterwards._cli.server import Server, listen
from afterwards._cli.supervisor import supervise


def run(launch: Launch, *, host: str, port: int, workers: int, reload: bool) -> int:
    """Serve a program until told to stop; return the exit status.

    Raises:
        ProgramRefused: The address cannot be had.
    """
    logs.configure(launch.log_format)
    listener = listen(host, port)
    launch.publish()
    if reload:
        server = Server(launch, reload=True)
        ChangeReload(server.config, target=server.run, sockets=[listener]).run()
        return 0
    if workers > 1:
        return supervise(workers, listener)
    return _alone(launch, [listener])


def work(launch: Launch, *, processes: int) -> int:
    """Run a program's tasks, without serving it, until told to stop; return the exit status."""
    logs.configure(launch.log_format)
    launch.publish()
    if processes > 1:
        return supervise(processes, None)
    return _alone(launch, [])


def _alone(launch: Launch, listeners: list[socket.socket]) -> int:
    server = Server(launch)
    try:
        server.run(sockets=listeners)
    except KeyboardInterrupt:  # raised again by uvicorn after the orderly end
        return 0
    except SystemExit as ended:  # uvicorn's way to say that the program's start-up failed; it is logged
        return 1 if ended.code else 0
    return 0 if server.started else 1
