"""Every peer at once: drain, HTTP and pickup of all that can be measured here, one table each with ours in it."""

from benchmarks import drain, pickup, rate
from benchmarks.figures import Part
from benchmarks.run import Run

PARTS = (drain.measure, rate.measure, pickup.measure)


def measure(run: Run) -> list[Part]:
    """The three parts in which peers take part."""
    return [part(run) for part in PARTS]
