"""No statement reads a whole table that grows, so that the millionth task costs what the first did."""

import apsw
import pytest

from afterwards._domain.tasks import NewTask
from afterwards._store.sqlite.connection import Database
from afterwards._store.sqlite.sql import QUERIES
from contract.hand import Hand, new_task

GROWING = ("task", "attempt", "event", "file", "task_file", "idempotency_key", "upload")

# What reads more than it returns, and why that is right.
ALLOWED = {
    "count_tasks": "counts the entries of small indexes and of task_finished; asked by people, not by the engine",
    "count_purgeable": "reads the index of files that no task has; asked by people",
    "purgeable_files": "the same",
    "list_open_tasks": "reads the small index of one state, since none of them is in the order of a list",
}


def plan(connection: apsw.Connection, text: str) -> list[str]:
    connection = connection.execute(f"EXPLAIN QUERY PLAN {text}", _Nothing())
    return [detail for _, _, _, detail in connection]


class _Nothing(dict):
    def __missing__(self, name):
        return None


@pytest.fixture
def connection(path, store):
    connection = Database(path).open(readonly=True)
    yield connection
    connection.close()


@pytest.mark.parametrize("name", sorted(QUERIES))
def test_no_statement_scans_a_table_that_grows(connection, name):
    """SEARCH goes to the rows it wants; SCAN reads all there are."""
    text = QUERIES[name].partition("\n")[2] if QUERIES[name].startswith("--") else QUERIES[name]

    scans = [
        step
        for step in plan(connection, text)
        if any(step == f"SCAN {table}" or step.startswith(f"SCAN {table} ") for table in GROWING)
    ]

    if name in ALLOWED:
        assert scans, f"{name} scans no more: take it off the list"
        assert all("INDEX" in step for step in scans)
    else:
        assert scans == []


def test_the_list_names_only_statements_that_exist():
    assert set(ALLOWED) <= set(QUERIES)


def test_a_claim_reads_the_best_of_each_name_in_the_order_of_their_index(connection):
    """It stands in a trigger, whose plan SQLite does not show: the innermost part may face a million tasks."""
    trigger = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'batch_claimed'").get
    best = trigger.partition("ready.seq IN (")[2].partition("LIMIT new.most)")[0]
    assert best.split()[:2] == ["SELECT", "seq"]

    steps = plan(connection, best.replace("wanted.value", ":name") + "LIMIT :most")

    assert steps == ["SEARCH task USING COVERING INDEX task_ready (name=?)"]


def test_no_command_steps_through_rows_it_does_not_want(path, store, hand):
    """What the plans do not show, triggers and constraints, is counted while real commands run."""
    seed(hand, 300)
    steps: dict[str, int] = {}
    connection = store._session._connection

    def count(event):
        text = event["sql"]
        steps[text] = steps.get(text, 0) + event["stmt_status"]["SQLITE_STMTSTATUS_FULLSCAN_STEP"]

    connection.trace_v2(apsw.SQLITE_TRACE_PROFILE, count)
    hand.add(new_task(), *[new_task(name="g") for _ in range(2)])
    claim = hand.one()
    hand.tell(claim, "progress", "1")
    hand.settle(claim)
    hand.run_again(claim.id)
    hand.one()
    hand.stopping()
    hand.rescue()
    hand.now += 1
    hand.prune(before=hand.now - 1, now=hand.now, limit=3)
    connection.trace_v2(0, None)

    wasteful = {text: number for text, number in steps.items() if number > 10}
    assert len(steps) > 10
    assert wasteful == {}


def seed(hand: Hand, number: int) -> None:
    """Finished tasks, as an old database has them."""
    tasks: list[NewTask] = [new_task() for _ in range(number)]
    hand.add(*tasks)
    for claim in hand.claim(number):
        hand.settle(claim)
