"""Rules about data are kept by the database itself, whoever writes to it."""

import apsw
import pytest

from afterwards._domain.tasks import TaskState
from afterwards._store.keys import TakeKey
from afterwards._store.sqlite.connection import Database
from contract.hand import chain, new_task

RUNNING = "(SELECT seq FROM task WHERE state = 'running')"

BROKEN = {
    "a second running attempt": f"""INSERT INTO attempt (task, number, worker, token, state, started_at)
                                    VALUES ({RUNNING}, 2, 'w', 't', 'running', 1)""",
    "the same attempt twice": f"""INSERT INTO attempt (task, number, worker, token, state, started_at, ended_at)
                                  VALUES ({RUNNING}, 1, 'w', 't', 'failed', 1, 2)""",
    "an attempt of no task": "INSERT INTO attempt VALUES (99999, 1, 'w', 't', 'failed', 1, 2, NULL)",
    "an ended attempt without its end": "UPDATE attempt SET state = 'failed'",
    "an attempt in an unknown state": "UPDATE attempt SET state = 'odd', ended_at = 1",
    "running without a token": "UPDATE task SET token = NULL WHERE state = 'running'",
    "running without a worker": "UPDATE task SET worker = NULL WHERE state = 'running'",
    "a token without running": "UPDATE task SET token = 't' WHERE state = 'queued'",
    "queued with a worker": "UPDATE task SET worker = 'w1' WHERE state = 'queued'",
    "waiting for nothing": "UPDATE task SET after = NULL WHERE state = 'waiting'",
    "ended without a time": "UPDATE task SET state = 'failed' WHERE state = 'queued'",
    "a time without an end": "UPDATE task SET finished_at = 1 WHERE state = 'queued'",
    "a result without success": "UPDATE task SET result = '1' WHERE state = 'queued'",
    "an unknown state": "UPDATE task SET state = 'odd'",
    "no attempts allowed": "UPDATE task SET max_attempts = 0",
    "the same id twice": "UPDATE task SET id = (SELECT min(id) FROM task)",
    "a time that is text": "UPDATE task SET created_at = 'yesterday'",
    "an event of no task": "INSERT INTO event (task, kind, at, data) VALUES (99999, 'log', 1, '1')",
    "an event of an unknown kind": f"INSERT INTO event (task, kind, at, data) VALUES ({RUNNING}, 'odd', 1, '1')",
    "a file of a wrong size": """INSERT INTO file (id, size, headers, digest, content, created_at)
                                 VALUES ('x', 5, '[]', 'd', x'00', 1)""",
    "a link to no file": f"INSERT INTO task_file (task, file) VALUES ({RUNNING}, 99999)",
    "a key that is held and answered": "UPDATE idempotency_key SET status = 202, headers = '[]', expires_at = 1",
    "a key that is neither": "UPDATE idempotency_key SET worker = NULL, token = NULL",
    "a key held without a token": "UPDATE idempotency_key SET token = NULL",
    "a held key that expires": "UPDATE idempotency_key SET expires_at = 1",
    "a held key with a body": "UPDATE idempotency_key SET body = x'00'",
    "what an unknown worker knows": "INSERT INTO knows VALUES ('nobody', 'f')",
}


@pytest.fixture
def connection(path, store, hand):
    hand.add(new_task(priority=1), new_task(), *chain({}, {}))
    hand.claim(1)
    hand.ask(TakeKey(id=b"k", worker="w1", token="t", now=1))
    connection = Database(path).open()
    yield connection
    connection.close()


@pytest.mark.parametrize("broken", BROKEN)
def test_the_database_refuses(connection, broken):
    """A fault in our own code then stops at the database, and not in a state no one has thought of."""
    with pytest.raises(apsw.ConstraintError):
        connection.execute(BROKEN[broken])


def test_a_claim_cannot_be_made_without_its_attempt(connection, store):
    """Whichever statement raises the attempt number, the record is made with it."""
    connection.execute(
        """UPDATE task SET state = 'running', attempt = attempt + 1, worker = 'w1', token = 't', started_at = 1
            WHERE seq = (SELECT min(seq) FROM task WHERE state = 'queued')"""
    )

    counts = connection.execute("SELECT count(*) FROM attempt WHERE state = 'running'").get
    assert counts == store.counts()[TaskState.RUNNING] == 2


def test_every_connection_has_the_settings_durability_needs(path, store):
    """Measured: with synchronous=NORMAL a power cut takes every acknowledged commit along."""
    for readonly in (False, True):
        connection = Database(path).open(readonly=readonly)
        settings = {
            name: connection.pragma(name)
            for name in ("synchronous", "foreign_keys", "journal_mode", "mmap_size", "recursive_triggers")
        }
        connection.close()
        assert settings == {
            "synchronous": 2,  # FULL
            "foreign_keys": 1,
            "journal_mode": "wal",
            "mmap_size": 0,
            "recursive_triggers": 0,
        }
    assert store._session._connection.pragma("synchronous") == 2
