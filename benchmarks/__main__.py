"""`python -m benchmarks [PART] [--peers a,b] [--repeats 5] [--quick] [--python PATH]`: measure, print, keep.

Without a part all of them run, some 30 minutes; `--quick` takes a few and is for trying the harness. Only loopback is
used, every process started is ended, and the results go to `benchmarks/results.json`.
"""

import argparse
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import (
    age,
    catalogue,
    comparison,
    crash,
    download,
    drain,
    files,
    idle,
    latency,
    machine,
    pickup,
    rate,
    report,
    resumable,
    upload,
)
from benchmarks.children import ROOT, ChildFailed
from benchmarks.figures import Part
from benchmarks.load import default_client
from benchmarks.run import DATA, Run, say

PARTS: dict[str, Callable[[Run], Part]] = {
    "http": rate.measure,
    "latency": latency.measure,
    "drain": drain.measure,
    "pickup": pickup.measure,
    "idle": idle.measure,
    "age": age.measure,
    "upload": upload.measure,
    "download": download.measure,
    "files": files.measure,
    "resumable": resumable.measure,
    "crash": crash.measure,
}
RESULTS = ROOT / "benchmarks" / "results.json"


def main() -> int:
    """Run what was asked for. 1 when a side of ours failed; a missed figure is a result, not a failure."""
    given = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every child is ended on the way out
    DATA.mkdir(exist_ok=True)
    try:
        run = _prepare(given)
        parts = _measure(run, [given.part] if given.part else list(PARTS))
    finally:
        shutil.rmtree(DATA, ignore_errors=True)
    about = {**machine.describe(), "client": run.client, "repeats": run.repeats, "quick": run.quick, "seed": run.seed}
    report.write(RESULTS, parts, {**about, "peers": run.versions, "not measured": run.absent})
    beside = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    print(f"\nmeasured beside Afterwards: {beside or 'none'}")
    for name, reason in run.absent.items():
        print(f"not measured: {name}: {reason}")
    print(f"all samples: {RESULTS.relative_to(ROOT)}")
    ours = [
        part.absent[side]
        for part in parts
        for side in part.absent
        if side not in {entry.name for entry in catalogue.PEERS}
    ]
    return 1 if ours else 0


def _measure(run: Run, names: list[str]) -> list[Part]:
    parts: list[Part] = []
    for name in names:
        if warning := machine.disturbed():
            say(f"warning: {warning}")
        try:
            found = comparison.measure(run) if name == "peers" else [PARTS[name](run)]
        except ChildFailed as error:
            say(f"{name}: FAILED: {error}")
            found = [Part(name=name, absent={"afterwards": str(error).splitlines()[0]})]
        for part in found:
            print(report.show(part), flush=True)
        parts += found
    return parts


def _prepare(given: argparse.Namespace) -> Run:
    """Find out who can be measured here, and say who cannot."""
    entries = catalogue.named(None if given.peers is None else [name for name in given.peers.split(",") if name])
    python = given.python or _default_python()
    versions, absent = {}, {}
    for entry in entries:
        version, reason = catalogue.probe(entry, python, DATA)
        if reason:
            absent[entry.name] = reason
            say(f"not measured: {entry.name}: {reason}")
        else:
            versions[entry.name] = version
    return Run(
        repeats=given.repeats,
        quick=given.quick,
        client=given.client,
        peers=tuple(entry for entry in entries if entry.name in versions),
        absent=absent,
        versions=versions,
        peers_python=python,
        seed=given.seed,
    )


def _default_python() -> Path | None:
    found = ROOT / ".venv-bench" / "bin" / "python"
    return found if found.exists() else None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Afterwards and its peers, side by side.")
    parser.add_argument("part", nargs="?", choices=[*PARTS, "peers"], help="one part; all of them without")
    parser.add_argument(
        "--peers", metavar="A,B", help="only these peers; empty for none; without it all that can be measured"
    )
    parser.add_argument("--repeats", type=int, default=5, help="turns of every side (default 5)")
    parser.add_argument("--quick", action="store_true", help="little work a turn: tries the harness, proves no figure")
    parser.add_argument("--python", type=Path, metavar="PATH", help="interpreter with the peers (default .venv-bench)")
    parser.add_argument("--client", choices=["wrk", "own"], default=default_client(), help="HTTP load client")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32), help="of the kills")
    given = parser.parse_args()
    if given.repeats < 1:
        parser.error("--repeats must be at least 1")
    return given


if __name__ == "__main__":
    sys.exit(main())
