"""How soon an idle worker starts a task that was queued.

200 tasks, 20 ms apart, so each meets a worker that waits. In one process the clock starts when the commit that stored
the task has ended, as SQLite reports it to `commits.py`; the time from the call is shown beside it, and is all there is
for tasks queued by another process and for the peers. Peers' worker and producer are two processes, taskflow's one.
"""

import asyncio
import time
from functools import partial

from benchmarks.app_data import data_of
from benchmarks.catalogue import Entry
from benchmarks.children import ChildFailed
from benchmarks.commits import commits
from benchmarks.figures import Part, percentile
from benchmarks.peers.command import GAP
from benchmarks.run import Run, Samples, Side, turns
from benchmarks.task import runs, traces
from benchmarks.wire import Connection

COUNT = 200
WITHIN = 60.0  # seconds for the last of them to start
SETTLE = 1.0  # seconds a worker gets to become idle; it has no event of its own to wait for

Quantities = dict[tuple[str, str], float]


def measure(run: Run) -> Part:
    part = Part(name="pickup", absent=dict(run.absent))
    samples = Samples(part, run)
    sides: list[Side] = [("same process", partial(_same_process, run)), ("other process", partial(_other_process, run))]
    sides += [(entry.name, partial(peer, run, entry)) for entry in run.peers if entry.web]
    for repeat in range(run.repeats):
        for side, measure_once in turns(repeat, sides):
            samples.take(side, repeat, measure_once)
    samples.keep()
    for row in part.rows:
        match row.side, row.what:
            case "same process", "after commit p50":
                part.promise("start after commit, same process, p50", row.median, "ms", at_most=1)
            case "same process", "after commit p99":
                part.promise("start after commit, same process, p99", row.median, "ms", at_most=5)
            case "other process", "from call p50":
                part.promise("start in another process, from the call, p50", row.median, "ms", at_most=5)
    return part


def _same_process(run: Run) -> Quantities:
    count = run.size(COUNT, 50)
    with run.our_server("pickup", "benchmarks.commits") as (folder, port, child):
        time.sleep(SETTLE)
        asyncio.run(_trickle(port, count))
        child.until(lambda: runs(folder) >= count, within=WITHIN, what="every task started")
        found, ends = traces(folder), commits(folder)
    after_commit = []
    for trace in found:
        stored = [end for end in ends if trace.sent < end < trace.began]
        if len(stored) != 1:  # with two, nobody could say which of them stored it
            raise ChildFailed(f"{len(stored)} commits between the call and the first line of task {trace.number}")
        after_commit.append((trace.began - stored[0]) / 1e6)
    return {
        ("after commit p50", "ms"): percentile(after_commit, 0.5),
        ("after commit p99", "ms"): percentile(after_commit, 0.99),
        **_from_call([(trace.began - trace.sent) / 1e6 for trace in found]),
    }


async def _trickle(port: int, count: int) -> None:
    """Queue one task each 20 ms."""
    connection = await Connection.to(port)
    for _ in range(count):
        await asyncio.sleep(GAP)
        answer = await connection.request("POST", "/enqueue")
        if answer.status != 202:
            raise ChildFailed(f"POST /enqueue answered {answer.status}: {answer.body[:200]!r}")
    connection.close()


def _other_process(run: Run) -> Quantities:
    count = run.size(COUNT, 50)
    with run.folder("pickup-other") as folder:
        data_of(folder).mkdir()
        with run.ours(folder, "work") as worker:
            time.sleep(SETTLE)
            with run.ours(folder, "trickle", str(count)) as producer:
                producer.finish(within=WITHIN)
            worker.until(lambda: runs(folder) >= count, within=WITHIN, what="every task started")
        return _from_call([(trace.began - trace.sent) / 1e6 for trace in traces(folder)])


def peer(run: Run, entry: Entry) -> Quantities:
    """One peer as its file sets it up; where that is not its default, the file says so."""
    count = run.size(COUNT, 50) if not entry.polls else 20
    with run.peer_with_server(entry) as (folder, address):
        if not entry.split:
            with run.peer(entry, folder, address, "trickle", str(count)) as both:
                both.finish(within=WITHIN)
        else:
            with run.peer(entry, folder, address, "work") as worker:
                time.sleep(SETTLE * 2)
                with run.peer(entry, folder, address, "trickle", str(count)) as producer:
                    producer.finish(within=WITHIN)
                worker.until(lambda: runs(folder) >= count, within=WITHIN, what="every task started")
        return _from_call([(trace.began - trace.sent) / 1e6 for trace in traces(folder)])


def _from_call(milliseconds: list[float]) -> Quantities:
    return {
        ("from call p50", "ms"): percentile(milliseconds, 0.5),
        ("from call p99", "ms"): percentile(milliseconds, 0.99),
    }
