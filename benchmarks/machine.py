"""What this machine is and does while we measure: its disk, its load, the memory and time of a process tree.

Reads /proc, so the figures that need it are Linux's; the others run wherever the package does.
"""

import os
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

BUSY = 0.7  # one-minute load per core above which a run is called disturbed
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """A process and all its descendants, at one moment."""

    cpu: float  # seconds, user and system
    resident: int  # bytes now; pages shared between processes count in each
    peak: int  # bytes, highest resident size since `forget_peak`
    written: int  # bytes sent towards the disk


def describe() -> dict[str, str | int]:
    """What a reader needs to know to compare two results files."""
    return {
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": os.cpu_count() or 0,
        "python": sys.version.split()[0],
    }


def disturbed() -> str | None:
    """A sentence when other work loads the machine, else None. Our own work counts too once we run."""
    load = os.getloadavg()[0]
    cores = os.cpu_count() or 1
    if load / cores <= BUSY:
        return None
    return (
        f"the load average is {load:.1f} on {cores} cores: other processes disturb this run, trust ratios before rates"
    )


def sync_time(folder: Path, *, count: int = 200) -> float:
    """Median seconds of one 4 KiB append and fdatasync in `folder`: what a commit costs at least."""
    path = folder / "sync.probe"
    block = os.urandom(4096)
    samples = []
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        for _ in range(count):
            begin = time.perf_counter()
            os.write(descriptor, block)
            _fdatasync(descriptor)
            samples.append(time.perf_counter() - begin)
    finally:
        os.close(descriptor)
        path.unlink()
    return median(samples)


_fdatasync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync in Python


def usage(pid: int) -> Usage:
    """Sum over the process and its descendants as they are now; ended ones are in the CPU of whoever reaped them."""
    cpu, resident, peak, written = 0.0, 0, 0, 0
    for member in family(pid):
        try:
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(") ")[2].split()
            status = _pairs(Path(f"/proc/{member}/status"))
            io = _pairs(Path(f"/proc/{member}/io"))
        except (FileNotFoundError, ProcessLookupError):
            continue  # a descendant that ended while we looked
        cpu += sum(int(fields[index]) for index in (11, 12, 13, 14)) / _TICK
        resident += _kibibytes(status, "VmRSS")
        peak += _kibibytes(status, "VmHWM")
        written += int(io["write_bytes"])
    return Usage(cpu=cpu, resident=resident, peak=peak, written=written)


def forget_peak(pid: int) -> None:
    """Let the peak of every member start again from its present size."""
    for member in family(pid):
        Path(f"/proc/{member}/clear_refs").write_text("5")


def family(pid: int) -> list[int]:
    """The process and its descendants."""
    members = [pid]
    for member in members:
        for listing in Path(f"/proc/{member}/task").glob("*/children"):
            try:
                members.extend(int(child) for child in listing.read_text().split())
            except (FileNotFoundError, ProcessLookupError):
                continue
    return members


def _pairs(path: Path) -> dict[str, str]:
    return dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)


def _kibibytes(status: dict[str, str], name: str) -> int:
    return int(status.get(name, "0 kB").split()[0]) * 1024
