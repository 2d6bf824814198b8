"""Servers under load that are killed, what their clients were promised, and whether it was kept.

Two ledgers, both outside of the data directory: the client's says what was answered with 2xx, the handlers' what
was begun and ended. Lost is what is in the first and has no end in the second. So a server that keeps no
tasks at all can be judged too, and must be found out: see `test_controls.py`.
"""

import http.client
import json
import os
import random
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import apsw

from afterwards._domain.tasks import FINAL, AttemptState, TaskState
from crash.work import digest
from support.data import Data
from support.server import Program

DEADLINE = 20.0  # seconds


@dataclass
class Verdict:
    """What became of all that was accepted."""

    accepted: int = 0
    lost: list[str] = field(default_factory=list)  # accepted, and never ended
    stuck: list[str] = field(default_factory=list)  # neither final nor done in time
    wrong: list[str] = field(default_factory=list)  # another result than the right one
    unexplained: list[str] = field(default_factory=list)  # begun more often than the record of attempts allows
    repeats: int = 0

    @property
    def broken(self) -> list[str]:
        return self.lost + self.stuck + self.wrong + self.unexplained


class Harness:
    """One data directory, one server at a time or several, and any number of clients."""

    def __init__(self, folder: Path, app: str = "crash.program:app", *, seed: int | None = None) -> None:
        self.folder = folder
        self.app = app
        self.seed = random.SystemRandom().getrandbits(32) if seed is None else seed
        print(f"seed {self.seed}")
        self.random = random.Random(self.seed)
        self.data = Data(folder / "data")
        self.handled = folder / "handlers"
        self.handled.touch()
        self.promises: dict[str, tuple[str, str]] = {}  # by key: task id, digest
        self._ledger = os.open(folder / "clients", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._lock = threading.Lock()
        self._numbers = 0
        self.servers: list[Program] = []
        self.ready: list[float] = []  # when each server listened, on the wall clock

    def close(self) -> None:
        for server in self.servers:
            if server.process.poll() is None:
                server.kill()
        self.data.close()
        os.close(self._ledger)

    def start(self, *arguments: str, **environment: str) -> Program:
        server = Program(
            "uvicorn",
            self.app,
            *arguments,
            "--port=0",
            "--log-level=info",
            "--no-access-log",
            folder=self.folder,
            data=self.folder / "data",
            CRASH_LEDGER=str(self.handled),
            **environment,
        )
        self.servers.append(server)
        assert server.port
        self.ready.append(time.time())
        return server

    def stop(self, server: Program) -> None:
        """Ask a server to stop; it must sign off. uvicorn ends by the signal that it was sent."""
        assert server.stop() in (0, -signal.SIGTERM), server.text
        assert {one.name for one in (self.data.data / "workers").iterdir()} <= {"promises"}  # locks in it, no bytes

    def request(self, port: int, kind: str, content: bytes | None = None, **query: object) -> tuple[str, str]:
        """Send one request and keep what was promised. A dead server raises an OSError or HTTPException."""
        with self._lock:
            self._numbers += 1
            key = f"{kind}-{self._numbers}"
        parameters = "&".join(f"{name}={value}" for name, value in {"key": key, **query}.items())
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
        try:
            body, headers = (None, {}) if content is None else _form(content)
            connection.request("POST", f"/{kind}?{parameters}", body, headers)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        assert answer.status == 202, (answer.status, text)
        id = json.loads(text)
        promise = id, digest(key, content or b"")
        os.write(self._ledger, f"{key} {' '.join(promise)}\n".encode())
        os.fsync(self._ledger)
        with self._lock:
            self.promises[key] = promise
        return key, id

    def load(self, port: int, number: int) -> "list[threading.Thread]":
        """Send requests from several clients until the server is gone."""
        clients = [
            threading.Thread(target=self._client, args=(port, random.Random(self.random.getrandbits(32))))
            for _ in range(number)
        ]
        for client in clients:
            client.start()
        return clients

    def _client(self, port: int, chance: random.Random) -> None:
        while True:
            pause = chance.choice([0, 0, 0.01, 0.1])
            try:
                match chance.randrange(3):
                    case 0:
                        self.request(port, "plain", pause=pause)
                    case 1:
                        self.request(port, "coroutine", pause=pause)
                    case _:
                        size = int(2 ** chance.uniform(0, 20)) - 1  # up to a mebibyte, as many small as large
                        self.request(port, "upload", chance.randbytes(size))
            except (OSError, http.client.HTTPException):
                return

    def kill_under_load(self, clients: int = 4, **environment: str) -> None:
        """Start a server, load it, and kill it at a moment nobody knows."""
        server = self.start(**environment)
        sending = self.load(server.port, clients)
        time.sleep(self.random.uniform(0.02, 0.6))  # the moment is what is tried: nothing is waited for here
        server.kill()
        for client in sending:
            client.join(DEADLINE)
            assert not client.is_alive()

    def lines(self, word: str) -> list[list[str]]:
        """What handlers have written, one kind of line."""
        return [line.split() for line in self.handled.read_text().splitlines() if line.startswith(word + " ")]

    def wait(self, there, shown=lambda: None) -> None:
        """Wait for what other processes do, and look every hundredth of a second."""
        until = time.monotonic() + DEADLINE
        while not there():
            assert time.monotonic() < until, shown()
            time.sleep(0.01)

    def judge(self, *, stored: bool = True, patience: float = DEADLINE) -> Verdict:
        """Wait until everything has ended, then compare what was promised with what was done."""
        verdict = Verdict(accepted=len(self.promises))
        until = time.monotonic() + patience
        while self._open(stored) and time.monotonic() < until:
            time.sleep(0.02)
        ends: dict[str, set[str]] = {}
        for _, key, _, found in self.lines("end"):
            ends.setdefault(key, set()).add(found)
        starts = Counter(key for _, key, *_ in self.lines("start"))
        verdict.repeats = sum(number - 1 for number in starts.values())
        for key, (id, right) in self.promises.items():
            if key not in ends:
                verdict.lost.append(key)
            elif ends[key] != {right}:
                verdict.wrong.append(key)
            if stored:
                self._judge_stored(verdict, key, id, right, starts[key])
        return verdict

    def _open(self, stored: bool) -> bool:
        if not stored:
            return len({key for _, key, *_ in self.lines("end")} & set(self.promises)) < len(self.promises)
        counts = self.data.reads.counts()
        return any(TaskState(state) not in FINAL for state in counts)

    def _judge_stored(self, verdict: Verdict, key: str, id: str, right: str, starts: int) -> None:
        row = self.data.reads.task(id)
        if row is None:
            verdict.lost.append(key)
            return
        if row.state not in FINAL:
            verdict.stuck.append(f"{key} is {row.state}")
        elif row.state is not TaskState.SUCCEEDED or row.result != json.dumps(right):
            verdict.wrong.append(f"{key} is {row.state} with {row.result}, {row.error}")
        attempts = self.data.reads.attempts(id)
        broken_off = [one for one in attempts if one.state in (AttemptState.INTERRUPTED, AttemptState.RELEASED)]
        if not starts - 1 <= len(broken_off) or starts > len(attempts):
            verdict.unexplained.append(f"{key} was begun {starts} times in {[one.state.value for one in attempts]}")

    def moving_again(self) -> list[float]:
        """Seconds from the moment a server listened to the next attempt of each task that was interrupted before."""
        waits = []
        for id, _ in self.promises.values():
            attempts = self.data.reads.attempts(id)
            for one, following in pairwise(attempts):
                if one.state is AttemptState.INTERRUPTED:
                    began = following.started_at / 1e6
                    up = max((ready for ready in self.ready if ready <= began), default=began)
                    waits.append(began - up)
        return waits

    def integrity(self) -> str:
        """What SQLite says of the database when nobody has it open."""
        connection = apsw.Connection(str(self.data.data / "afterwards.db"))
        try:
            return str(connection.pragma("integrity_check"))
        finally:
            connection.close()


def _form(content: bytes) -> tuple[bytes, dict[str, str]]:
    boundary = os.urandom(16).hex()
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
    body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}
