"""What a part hands back, and the few statistics it needs.

Ratios are taken within a repeat, then their median: the machine's speed drifts, and the sides of a repeat with it.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One quantity of one side, a sample per repeat."""

    side: str
    what: str
    unit: str
    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.samples)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number the project has promised, as it came out."""

    what: str
    value: float
    unit: str
    wanted: str  # in words, with the number
    reached: bool


@dataclass(slots=True, kw_only=True)
class Part:
    """Everything one part has to say."""

    name: str
    rows: list[Row] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)  # side -> why it was not measured
    remarks: list[str] = field(default_factory=list)

    def add(self, side: str, what: str, unit: str, samples: Iterable[float]) -> Row:
        """Keep a quantity and hand it back, so that ratios can be made of it."""
        row = Row(side=side, what=what, unit=unit, samples=tuple(samples))
        self.rows.append(row)
        return row

    def promise(
        self, what: str, value: float, unit: str, *, at_least: float | None = None, at_most: float | None = None
    ) -> None:
        """Compare a value with its bound: exactly one of `at_least` and `at_most` is given."""
        if at_least is not None:
            figure = Figure(what=what, value=value, unit=unit, wanted=f">= {at_least:g}", reached=value >= at_least)
        elif at_most is not None:
            figure = Figure(what=what, value=value, unit=unit, wanted=f"<= {at_most:g}", reached=value <= at_most)
        else:
            raise ValueError(f"{what}: a promise needs a bound, give at_least or at_most")
        self.figures.append(figure)


def ratios(upper: Sequence[float], lower: Sequence[float]) -> list[float]:
    """Sample by sample; both come from the same repeats, in the same order."""
    return [above / below for above, below in zip(upper, lower, strict=True)]


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least `share` (0 to 1) of all samples do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]
