"""A proxy that cuts connections: each of the first few after so many bytes of what the client sends."""

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Cutter:
    """Hands bytes on between clients and a server, until it cuts."""

    def __init__(self, target: int, *, cuts: int, seed: int, most: int) -> None:
        self.target = target  # a port; may be changed while it runs
        self.cuts = cuts  # connections still to be cut
        self.made = 0  # cuts so far
        self._most = most
        self._random = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._guard = threading.Lock()
        self._open: set[socket.socket] = set()
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._guard:
                budget = None
                if self.cuts:
                    self.cuts -= 1
                    budget = self._random.randrange(self._most)
            threading.Thread(target=self._serve, args=(client, budget), daemon=True).start()

    def _serve(self, client: socket.socket, budget: int | None) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self.target), 20)
        except OSError:  # it is being started again
            client.close()
            return
        back = threading.Thread(target=_copy, args=(server, client, None), daemon=True)
        back.start()
        cut = _copy(client, server, budget)
        if cut:
            with self._guard:
                self.made += 1
        for one in (client, server):
            _reset(one) if cut else one.close()
        back.join(20)

    def close(self) -> None:
        self._listener.close()


def _copy(source: socket.socket, target: socket.socket, budget: int | None) -> bool:
    """Copy until an end; True when the budget was used up."""
    left = budget
    try:
        while data := source.recv(65_536 if left is None else min(65_536, left + 1)):
            if left is not None and len(data) > left:
                target.sendall(data[:left])
                return True
            target.sendall(data)
            left = None if left is None else left - len(data)
    except OSError:  # whoever is on the other side must hear of it too
        _reset(target)
        return False
    try:
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    return False


def _reset(one: socket.socket) -> None:
    """End a connection as a network does that is suddenly gone."""
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    one.close()


@contextmanager
def cutting(target: int, *, cuts: int, seed: int, most: int) -> Iterator[Cutter]:
    """Cut each of the first connections after up to `most` bytes, for as long as the block lasts."""
    cutter = Cutter(target, cuts=cuts, seed=seed, most=most)
    try:
        yield cutter
    finally:
        cutter.close()
