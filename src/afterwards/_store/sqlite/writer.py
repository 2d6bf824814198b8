"""The one thread of a process that writes: everything that waits goes into one transaction.

Whatever happens, each command gets one answer. While the disk fails, everybody is refused at once, and the thread
tries in between to get the database back. How a batch is written is `session.py`'s business.
"""

import logging
import os
import threading
import time
from collections.abc import Callable

import apsw

from afterwards._store.contract import Command, Reply
from afterwards._store.sqlite.inbox import Inbox, Waiting
from afterwards._store.sqlite.replies import deliver
from afterwards._store.sqlite.session import Session
from afterwards.errors import Error, Stopped, StorageUnsure

log = logging.getLogger("afterwards.store")

MOST = 512  # commands in one transaction: keeps a commit under some ten milliseconds
REOPEN = 0.5  # seconds between attempts to get a failed disk back


class Writer:
    """Runs commands, one group commit after another."""

    def __init__(self, session: Session, committed: Callable[[bool], None]) -> None:
        self._session = session
        self._committed = committed
        self._inbox = Inbox()
        self._closing = False  # nothing more is taken
        self._gone = False  # the thread answers nothing more
        self._process = os.getpid()
        self.trouble: str | None = None  # why the last commit failed
        self._thread = threading.Thread(target=self._run, name="afterwards-writer", daemon=True)
        self._thread.start()

    def submit(self, command: Command, reply: Reply) -> None:
        """Hand over a command from any thread."""
        if self._closing or os.getpid() != self._process:
            deliver([(reply, self._stopped())])
            return
        self._inbox.put(command, reply)
        if self._gone:  # the thread ended in between: of us two, whoever takes it out of the inbox answers
            self._refuse(self._stopped())

    def close(self) -> None:
        """Commit what was submitted, then end the thread."""
        if os.getpid() != self._process:
            return  # the thread stayed with the parent
        if not self._closing:
            self._closing = True
            self._inbox.ring()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while True:
            closing = self._closing  # looked at before the inbox: what is in it then was submitted before
            if not closing:
                self._inbox.wait()
            batch = self._inbox.take(MOST)
            if not batch and closing:
                break
            if batch:
                try:
                    self._commit(batch)
                except Exception as error:  # a fault of ours must not end the thread that everybody waits for
                    log.exception("a batch of %d commands failed", len(batch))
                    deliver([(reply, error) for _, reply in batch])
        self._gone = True
        self._refuse(self._stopped())

    def _commit(self, batch: list[Waiting]) -> None:
        commands = [command for command, _ in batch]
        try:
            answers, work = self._session.run(commands)
        except Error as error:
            self.trouble = str(error)  # before anybody is told, and asks how the store is
            deliver([(reply, error) for _, reply in batch])
            if isinstance(error, StorageUnsure):
                self._recover(error)
            return
        self.trouble = None
        self._committed(work)
        deliver([(reply, answer) for (_, reply), answer in zip(batch, answers, strict=True)])
        self._session.keep_log_short()

    def _recover(self, error: StorageUnsure) -> None:
        """Refuse all writes until one of our own succeeds through a new connection."""
        log.error("the store failed and takes no writes until it is back: %s", error)
        said = ""
        while not self._closing:
            try:
                self._session.reopen()
            except (Error, apsw.Error, OSError) as again:
                if str(again) != said:
                    said = str(again)
                    log.warning("the store is still failing: %s", said)
                self._refuse_for(REOPEN, error)
            else:
                self.trouble = None
                log.warning("the store is back after a failure")
                return

    def _refuse_for(self, seconds: float, error: Error) -> None:
        until = time.monotonic() + seconds
        while not self._closing and (left := until - time.monotonic()) > 0:
            self._inbox.wait(left)
            self._refuse(error)

    def _refuse(self, error: Error) -> None:
        while waiting := self._inbox.take(MOST):
            deliver([(reply, error) for _, reply in waiting])

    def _stopped(self) -> Stopped:
        if os.getpid() != self._process:
            return Stopped(
                f"the store was opened by process {self._process}, and a fork of it cannot write, so nothing was "
                "stored. Queue the task in that process, or start others with the method spawn."
            )
        return Stopped("the store has been closed, so nothing was stored. Start the program again.")
