"""Whether an old database is slower: 1,000,000 finished and 100,000 waiting tasks against an empty store.

Two servers take turns in one run. "claim" is from the call of `enqueue` in another process, which runs no tasks, to the
first line of the body in the server, which has to claim it: one task each 20 ms. "status" is GET of a task's document
over one connection, of random tasks of every age. Half of what waits is due in a year, half names a function that no
program here has: neither may slow down what can run. How fast a queue of tasks that can run empties is the subject of
`drain.py`.
"""

import asyncio
import random
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import apsw

from benchmarks import ledger
from benchmarks.app_data import data_of
from benchmarks.children import Child, ChildFailed
from benchmarks.figures import Part, percentile, ratios
from benchmarks.run import Run, Samples, say
from benchmarks.task import runs, traces
from benchmarks.wire import Connection

CLAIMS = 200
STATUSES = 1_000
SEED = Path(__file__).with_name("seed_tasks.sql")

Quantities = dict[tuple[str, str], float]


def measure(run: Run) -> Part:
    part = Part(name="age")
    samples = Samples(part, run)
    with run.folder("empty") as young, run.folder("old") as old:
        for folder in (young, old):
            with run.serving(partial(run.ours, folder, "serve")):
                pass  # a start makes the tables
        begin = time.monotonic()
        ids = _seed(data_of(old), run.size(1_000_000, 100_000), run.size(100_000, 10_000), run.seed)
        say(f"age: the old store was made in {time.monotonic() - begin:.0f} s")
        with (
            run.serving(lambda port: run.ours(young, "serve", port)) as (young_port, young_child),
            run.serving(lambda port: run.ours(old, "serve", port)) as (old_port, old_child),
        ):
            for repeat in range(run.repeats):
                samples.take("empty store", repeat, lambda: _both(run, young, young_port, young_child, []))
                samples.take("old store", repeat, lambda: _both(run, old, old_port, old_child, ids))
    samples.need("empty store", "old store")
    samples.keep()
    for what in ("claim p95", "status p95"):
        row = part.add("old / empty", what, "x", ratios(samples.of("old store", what), samples.of("empty store", what)))
        part.promise(f"{what} of the old store against the empty one", row.median, "x", at_most=2)
    return part


def _both(run: Run, folder: Path, port: int, child: Child, ids: list[str]) -> Quantities:
    begun = runs(folder)
    with run.ours(folder, "trickle", str(CLAIMS)) as producer:
        producer.finish(within=60)
    child.until(lambda: runs(folder) >= begun + CLAIMS, within=30, what="every task started")
    started = [(trace.began - trace.sent) / 1e6 for trace in traces(folder)[begun:]]
    asked = asyncio.run(_ask(port, ids or _ids(data_of(folder))))
    return {("claim p95", "ms"): percentile(started, 0.95), ("status p95", "ms"): percentile(asked, 0.95)}


async def _ask(port: int, ids: list[str]) -> list[float]:
    """Read documents; milliseconds of each reading."""
    connection = await Connection.to(port)
    asked = []
    for id in random.choices(ids, k=STATUSES):
        begin = time.perf_counter()
        answer = await connection.request("GET", f"/afterwards/tasks/{id}")
        asked.append((time.perf_counter() - begin) * 1000)
        if answer.status != 200:
            raise ChildFailed(f"GET of task {id} answered {answer.status}: {answer.body[:200]!r}")
    connection.close()
    return asked


def _ids(data: Path) -> list[str]:
    with closing(apsw.Connection(str(ledger.database(data)), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        return [id for (id,) in connection.execute("SELECT id FROM task")]


def _seed(data: Path, finished: int, waiting: int, seed: int) -> list[str]:
    """Write the old tasks straight into the database of a stopped server; some of their ids."""
    with closing(apsw.Connection(str(ledger.database(data)))) as connection:
        now = int(time.time() * 1_000_000)
        connection.execute(SEED.read_text(), {"finished": finished, "waiting": waiting, "now": now})
        chance = random.Random(seed)
        newest = connection.execute("SELECT max(seq) FROM task").get
        wanted = [chance.randrange(1, newest + 1) for _ in range(STATUSES)]
        found = (connection.execute("SELECT id FROM task WHERE seq = ?", (seq,)).get for seq in wanted)
        return [id for id in found if id is not None]
