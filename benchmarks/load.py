"""Puts a web server under HTTP load: keep-alive POSTs without a body, each connection sending once it was answered.

`wrk` where it is installed, else the client in `client.py`; one run uses one of them for all sides. An answer that is
not 2xx fails the measurement: a refusal is quick and must not count as speed.
"""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass

from benchmarks.children import ROOT, ChildFailed

_SCRIPT = ROOT / "benchmarks" / "post.lua"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What came back."""

    requests: int
    seconds: float
    p50: float  # ms
    p99: float  # ms

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def default_client() -> str:
    """The client a run uses unless told otherwise."""
    return "wrk" if shutil.which("wrk") else "own"


def load(client: str, port: int, path: str, *, connections: int, seconds: float) -> Load:
    """Send for `seconds` over so many connections.

    Raises:
        ChildFailed: The client failed, or an answer was not 2xx.
    """
    url = f"http://127.0.0.1:{port}{path}"
    if client == "wrk":
        duration = f"{max(1, round(seconds))}s"
        command = ["wrk", "-t1", f"-c{connections}", f"-d{duration}", "--timeout", "10s", "-s", str(_SCRIPT), url]
    else:
        command = [sys.executable, "-m", "benchmarks.client", str(port), path, str(connections), str(seconds)]
    limit = seconds + 60
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        raise ChildFailed(f"the load client on {path} was still waiting for answers after {limit:.0f} s") from None
    if done.returncode != 0:
        raise ChildFailed(f"the load client on {path} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    if found["bad"]:
        raise ChildFailed(f"{found['bad']} of {found['requests']} answers on {path} were errors, or none came")
    return Load(requests=found["requests"], seconds=found["seconds"], p50=found["p50"], p99=found["p99"])
