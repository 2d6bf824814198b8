"""What an idle server costs: CPU of uvicorn with us, its queue empty, as a share of one core.

The same for plain FastAPI beside it, so that what uvicorn itself wakes up for can be told apart.
"""

import time
from functools import partial

from benchmarks import machine
from benchmarks.children import Child
from benchmarks.figures import Part
from benchmarks.load import load
from benchmarks.run import Run, Samples

SETTLE = 3.0  # seconds after the last request before the clock starts


def measure(run: Run) -> Part:
    """Both servers idle side by side; one long look, since the clock ticks at 10 ms."""
    part = Part(name="idle")
    samples = Samples(part, run)
    seconds = run.size(60, 20)
    with (
        run.our_server("memory", "benchmarks.memory") as (_, memory, plain),
        run.our_server("ours") as (_, ours, child),
    ):
        load("own", memory, "/task", connections=1, seconds=1)
        load("own", ours, "/task", connections=1, seconds=1)
        time.sleep(SETTLE)
        for repeat in range(2 if run.quick else run.repeats):
            before = _cpu(plain), _cpu(child)
            time.sleep(seconds)
            after = _cpu(plain), _cpu(child)
            for side, early, late in zip(("plain FastAPI", "afterwards"), before, after, strict=True):
                samples.take(side, repeat, partial(_share, late - early, seconds))
    samples.keep()
    part.promise("idle server", part.rows[-1].median, "% of a core", at_most=0.5)
    return part


def _share(cpu: float, seconds: float) -> dict[tuple[str, str], float]:
    return {("idle", "% of a core"): cpu / seconds * 100}


def _cpu(child: Child) -> float:
    return machine.usage(child.pid).cpu
