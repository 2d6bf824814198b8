"""What a durable task adds to the latency of one request, next to what a flush of this disk costs.

One connection, the median of the same POST in memory and with us, turn by turn, and the median of a 4 KiB append with
fdatasync on the same file system in the same repeat. The bound is 1.5 flushes and 0.2 ms: a commit is one flush, the
rest is for the request to reach the writer and come back.
"""

from functools import partial

from benchmarks import ledger, machine
from benchmarks.app_data import data_of
from benchmarks.figures import Part
from benchmarks.load import load
from benchmarks.run import DATA, Run, Samples


def measure(run: Run) -> Part:
    """Both servers stay up; only the load changes sides."""
    part = Part(name="latency")
    samples = Samples(part, run)
    with (
        run.our_server("memory", "benchmarks.memory") as (_, memory, _),
        run.our_server("ours") as (folder, ours, child),
    ):
        accepted: list[int] = []
        for repeat in range(run.repeats):
            samples.take("in memory", repeat, partial(_median, run, memory))
            samples.take("afterwards", repeat, partial(_median, run, ours, accepted))
            samples.take("disk", repeat, lambda: {("fdatasync of 4 KiB", "ms"): machine.sync_time(DATA) * 1000})
        ledger.settled(data_of(folder), child, within=60)
        part.remarks.append(ledger.check(data_of(folder), accepted=sum(accepted), exact=run.client == "own"))
    samples.need("in memory", "afterwards", "disk")
    samples.keep()
    plain, durable = samples.of("in memory", "c1 p50"), samples.of("afterwards", "c1 p50")
    disk = samples.of("disk", "fdatasync of 4 KiB")
    added = [with_us - without for with_us, without in zip(durable, plain, strict=True)]
    part.add("afterwards", "added p50", "ms", added)
    shares = part.add("afterwards", "added / (1.5 fdatasync + 0.2 ms)", "x", _shares(added, disk))
    part.promise("added latency against its bound, 1 connection", shares.median, "x", at_most=1)
    return part


def _median(run: Run, port: int, accepted: list[int] | None = None) -> dict[tuple[str, str], float]:
    found = load(run.client, port, "/task", connections=1, seconds=run.size(3, 1))
    if accepted is not None:
        accepted.append(found.requests)
    return {("c1 p50", "ms"): found.p50}


def _shares(added: list[float], disk: list[float]) -> list[float]:
    return [more / (1.5 * flush + 0.2) for more, flush in zip(added, disk, strict=True)]
