"""A proxy that loses answers: a request reaches the server, and its client's connection is reset instead of a reply."""

import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from support.work import DEADLINE

_AT_ONCE = struct.pack("ii", 1, 0)  # linger for 0 s: closing sends RST


class LossyProxy:
    """One connection after the other."""

    def __init__(self, port: int) -> None:
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.lost: list[bytes] = []  # the first line of each reply
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            client, _ = self._listener.accept()
            with client:
                client.settimeout(DEADLINE)
                if not self._lose_one(client):
                    return

    def _lose_one(self, client: socket.socket) -> bool:
        with socket.create_connection(("127.0.0.1", self._server), DEADLINE) as server:
            sent = False
            while True:
                ready, _, _ = select.select([client, server], [], [], DEADLINE)
                assert ready, "neither the client nor the server went on"
                if server in ready:  # it has committed, or it would not answer
                    self.lost.append(server.recv(65_536).partition(b"\r\n")[0])
                    break
                data = client.recv(65_536)
                if not data and not sent:
                    return False  # the proxy's own end
                sent = True
                server.sendall(data)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        return True

    def close(self) -> None:
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join(DEADLINE)
        self._listener.close()


@contextmanager
def losing(port: int) -> Iterator[LossyProxy]:
    """Lose the answers of the server behind a port for as long as the block lasts."""
    proxy = LossyProxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
