"""Requests a second, and the latency, of a POST that queues one task.

One uvicorn process with uvloop and httptools a side, freshly started; 1 connection first, then 32. "no task" and "in
memory" are plain FastAPI, the second with Starlette's background tasks. Ours runs every task in the same process
meanwhile; at the end the database must show each accepted one succeeded. Peers queue into their own storage and, but
for taskflow and DBOS, run nothing meanwhile, which is in their favour.
"""

from functools import partial

from benchmarks import ledger
from benchmarks.app_data import data_of
from benchmarks.catalogue import Entry
from benchmarks.children import Child
from benchmarks.figures import Part, ratios
from benchmarks.load import load
from benchmarks.run import Run, Samples, Side, turns
from benchmarks.task import runs

FEW, MANY = 1, 32  # connections
SETTLE = 120.0  # seconds for what is still queued when the load ends

Quantities = dict[tuple[str, str], float]


def measure(run: Run) -> Part:
    """Interleave the references, ours and every peer with a web side."""
    part = Part(name="http", absent=dict(run.absent))
    samples = Samples(part, run)
    sides: list[Side] = [
        ("no task", partial(_memory, run, "/none")),
        ("in memory", partial(_memory, run, "/task")),
        ("afterwards", partial(ours, run, "/task")),
    ]
    sides += [(entry.name, partial(peer, run, entry)) for entry in run.peers if entry.web]
    for repeat in range(run.repeats):
        for side, measure_once in turns(repeat, sides):
            samples.take(side, repeat, measure_once)
    samples.keep()
    reference = samples.of("in memory", "c32")
    for side in ("no task", "afterwards", *(entry.name for entry in run.peers if entry.web)):
        found = samples.of(side, "c32")
        if found and reference:
            share = part.add(side, "c32 / in memory", "x", ratios(found, reference))
            if side == "afterwards":
                part.promise("durable POST against in memory, 32 connections", share.median, "x", at_least=0.65)
    return part


def _memory(run: Run, path: str) -> Quantities:
    with run.our_server("memory", "benchmarks.memory") as (folder, port, child):
        found, answered = _both(run, port, path, child)
        if path == "/task":  # the reference must have done the work too
            child.until(lambda: runs(folder) >= answered, within=SETTLE, what="every in-memory task begun")
        return found


def ours(run: Run, path: str) -> Quantities:
    """Our side, with the proof that nothing accepted was left undone."""
    with run.our_server("ours") as (folder, port, child):
        found, accepted = _both(run, port, path, child)
        found["settled after", "s"] = ledger.settled(data_of(folder), child, within=SETTLE)
        ledger.check(data_of(folder), accepted=accepted, exact=run.client == "own")
        return found


def peer(run: Run, entry: Entry) -> Quantities:
    """One peer behind the same kind of endpoint."""
    with run.peer_server(entry) as (port, child):
        return _both(run, port, "/task", child)[0]


def _both(run: Run, port: int, path: str, child: Child) -> tuple[Quantities, int]:
    """The quantities of 1 and of 32 connections, and how many requests were answered in all, warm-up included."""
    seconds = run.size(3, 1)
    warm = load(run.client, port, path, connections=4, seconds=1)
    few = load(run.client, port, path, connections=FEW, seconds=seconds)
    many = load(run.client, port, path, connections=MANY, seconds=seconds)
    if child.process.poll() is not None:
        raise child.failure("died under load")
    found = {
        ("c1", "/s"): few.rate,
        ("c1 p50", "ms"): few.p50,
        ("c32", "/s"): many.rate,
        ("c32 p50", "ms"): many.p50,
        ("c32 p99", "ms"): many.p99,
    }
    return found, warm.requests + few.requests + many.requests
