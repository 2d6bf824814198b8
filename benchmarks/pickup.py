"""How soon an idle worker starts a task that was queued.

200 tasks, 20 ms apart, so each meets a worker that waits. The clock starts at the call, for every side. When the commit
ends cannot be seen from outside: `enqueue` may return after the body has begun, which makes the time since its return
negative. That time is shown, but what is judged for one process is a bound that can fail: the time from the call less
one fdatasync of this disk, since a commit cannot have taken less. It still holds whatever else `enqueue` does before
its commit, so it is stricter than the promise. Peers' worker and producer are two processes, taskflow's one.
"""

import asyncio
import time
from functools import partial

from benchmarks import machine
from benchmarks.app_data import data_of
from benchmarks.catalogue import Entry
from benchmarks.children import ChildFailed
from benchmarks.figures import Part, percentile
from benchmarks.peers.command import GAP
from benchmarks.run import DATA, Run, Samples, Side, turns
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
            case "same process", "after commit at most, p50":
                part.promise("start after commit, same process, p50", row.median, "ms", at_most=1)
            case "same process", "after commit at most, p99":
                part.promise("start after commit, same process, p99", row.median, "ms", at_most=5)
            case "other process", "from call p50":
                part.promise("start in another process, from the call, p50", row.median, "ms", at_most=5)
    return part


def _same_process(run: Run) -> Quantities:
    count = run.size(COUNT, 50)
    with run.our_server("pickup") as (folder, port, child):
        time.sleep(SETTLE)
        committed = asyncio.run(_trickle(port, count))
        child.until(lambda: runs(folder) >= count, within=WITHIN, what="every task started")
        found = traces(folder)
    since_return = [(trace.began - committed[trace.number]) / 1e6 for trace in found]
    call = [(trace.began - trace.sent) / 1e6 for trace in found]
    flush = machine.sync_time(DATA) * 1000
    return {
        ("after commit at most, p50", "ms"): percentile(call, 0.5) - flush,
        ("after commit at most, p99", "ms"): percentile(call, 0.99) - flush,
        ("since enqueue returned p50", "ms"): percentile(since_return, 0.5),
        **_from_call(call),
    }


async def _trickle(port: int, count: int) -> dict[int, int]:
    """Queue one task each 20 ms; when each `enqueue` had returned, by number, in ns."""
    connection = await Connection.to(port)
    committed = {}
    for _ in range(count):
        await asyncio.sleep(GAP)
        answer = await connection.request("POST", "/enqueue")
        if answer.status != 202:
            raise ChildFailed(f"POST /enqueue answered {answer.status}: {answer.body[:200]!r}")
        document = answer.json()
        committed[document["number"]] = document["committed"]
    connection.close()
    return committed


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
