"""Shows what came out: a table for people, `results.json` for comparing runs."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, Part, Row


def show(part: Part) -> str:
    """One part as text: medians with their range, what was not measured, the promised figures."""
    lines = ["", f"== {part.name} =="]
    if part.rows:
        wide = max(len(row.side) for row in part.rows)
        what = max(len(row.what) for row in part.rows)
        lines += [f"{row.side:<{wide}}  {row.what:<{what}}  {_samples(row)}" for row in part.rows]
    lines += [f"not measured: {side}: {reason}" for side, reason in part.absent.items()]
    lines += [f"note: {remark}" for remark in part.remarks]
    lines += [_figure(figure) for figure in part.figures]
    return "\n".join(lines)


def write(path: Path, parts: Iterable[Part], about: dict[str, Any]) -> None:
    """Everything, samples included, as JSON."""
    path.write_text(json.dumps({"about": about, "parts": [asdict(part) for part in parts]}, indent=1) + "\n")


def _samples(row: Row) -> str:
    if len(row.samples) == 1:
        return f"{_number(row.samples[0])} {row.unit}"
    span = f"{_number(min(row.samples))} to {_number(max(row.samples))}"
    return f"{_number(row.median)} {row.unit} ({span}, {len(row.samples)} repeats)"


def _figure(figure: Figure) -> str:
    verdict = "reached" if figure.reached else "MISSED"
    return f"{verdict}: {figure.what}: {_number(figure.value)} {figure.unit}, wanted {figure.wanted}"


def _number(value: float) -> str:
    """Three figures that matter, thousands parted."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
