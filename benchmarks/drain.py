"""No-op tasks drained from a full queue by one process.

Tasks are queued first, by a process that ends; then a worker starts and the time from the first body to the last
counts: neither its start-up nor the last acknowledgement is in the rate. Every number must have run. For ours the
database is then asked whether each task succeeded with an attempt on record. The share of the peers that lose a task
when the worker dies, and what each flushes, is in the catalogue.
"""

from functools import partial
from statistics import median

from benchmarks import ledger
from benchmarks.app_data import data_of
from benchmarks.catalogue import Entry
from benchmarks.figures import Part, ratios
from benchmarks.run import Run, Samples, Side, rate, turns
from benchmarks.task import runs

OURS = {"afterwards, async def": "coroutine", "afterwards, def": "thread"}
WITHIN = 120.0  # seconds until a drain is called stuck

Quantities = dict[tuple[str, str], float]


def measure(run: Run) -> Part:
    """Interleave ours, both kinds of function, with every peer that can be measured."""
    part = Part(name="drain", absent=dict(run.absent))
    samples = Samples(part, run)
    sides: list[Side] = [(side, partial(_ours, run, kind)) for side, kind in OURS.items()]
    sides += [(entry.name, partial(peer, run, entry)) for entry in run.peers]
    for repeat in range(run.repeats):
        for side, measure_once in turns(repeat, sides):
            samples.take(side, repeat, measure_once)
    samples.keep()
    if by_hand := samples.of("honker_batch", "drained"):
        part.remarks.append(
            f"honker_batch, {median(by_hand):,.0f}/s, is not among the five of the ratio: its loop is written by hand, "
            "flushes nothing and records no attempt; it is the fastest embedded drain we know"
        )
    ours = samples.of("afterwards, async def", "drained")
    deciding = {entry.name: samples.of(entry.name, "drained") for entry in run.peers if entry.decides}
    deciding = {name: found for name, found in deciding.items() if found}
    if ours:
        rates = part.add("afterwards, async def", "drained, judged", "/s", ours)
        part.promise("no-ops drained by one process", rates.median, "/s", at_least=15_000)
    if ours and deciding:
        fastest = [max(found) for found in zip(*deciding.values(), strict=True)]
        times = part.add("afterwards / fastest of " + ", ".join(deciding), "drained", "x", ratios(ours, fastest))
        part.promise("drain against the fastest embedded peer", times.median, "x", at_least=4)
    return part


def _ours(run: Run, kind: str) -> Quantities:
    count = run.size(30_000, 3_000)
    with run.folder(f"ours-{kind}") as folder:
        with run.ours(folder, "fill", str(count), kind) as filling:
            filling.finish(within=WITHIN)
        with run.ours(folder, "work") as worker:
            worker.until(lambda: runs(folder) >= count, within=WITHIN, what="drained")
            ledger.settled(data_of(folder), worker, within=WITHIN)
        ledger.check(data_of(folder), accepted=count, exact=True)
        return {("drained", "/s"): rate(folder, count)}


def peer(run: Run, entry: Entry) -> Quantities:
    """One drain of one peer."""
    count = run.size(entry.drain, entry.drain // 5)
    with run.peer_with_server(entry) as (folder, address):
        if not entry.split:
            with run.peer(entry, folder, address, "alone", str(count)) as both:
                both.finish(within=WITHIN)
            return {("drained", "/s"): rate(folder, count)}
        with run.peer(entry, folder, address, "fill", str(count)) as filling:
            filling.finish(within=WITHIN)
        with run.peer(entry, folder, address, "work") as worker:
            worker.until(lambda: runs(folder) >= count, within=WITHIN, what="drained")
        return {("drained", "/s"): rate(folder, count)}
