"""A large file downloaded again and again, by curl: from our file route by both of its ways, and from nginx.

One file on the disk for all of them, the one we stored: nginx is pointed at it, with `sendfile on`. The sides take
turns, each with its own server on loopback. It lies in the page cache by then, so the figure is what a server costs
beside the disk. CPU is the server's, user and system, for one download.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from afterwards._files.stored import path_of
from benchmarks import machine
from benchmarks.app_data import data_of
from benchmarks.children import ROOT, Child, ChildFailed
from benchmarks.figures import Part, ratios
from benchmarks.run import Run, Samples, turns
from benchmarks.task import DIRECTORY

OURS, PORTABLE, NGINX = "afterwards", "afterwards, any server", "nginx"
WITHIN = 120.0  # seconds for one download, and for the task that reads the upload
MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where one side has the file."""

    child: Child
    url: str


def measure(run: Run) -> Part:
    part = Part(name="download")
    if shutil.which("curl") is None:
        part.absent["afterwards"] = "curl is not installed"
        return part
    samples = Samples(part, run)
    size = run.size(1024, 128) * MEBIBYTE
    with ExitStack() as stack:
        folder = stack.enter_context(run.folder("download"))
        ours = stack.enter_context(_ours(run, folder, "afterwards.server:HttpProtocol"))
        id = _stored(ours, size)
        sources = {OURS: Source(child=ours[1], url=f"http://127.0.0.1:{ours[0]}/afterwards/files/{id}")}
        other = stack.enter_context(_ours(run, folder, "httptools"))
        sources[PORTABLE] = Source(child=other[1], url=f"http://127.0.0.1:{other[0]}/afterwards/files/{id}")
        if (program := _nginx()) is None:
            part.absent[NGINX] = "nginx is not installed"
        else:
            port, child = stack.enter_context(_serving_nginx(run, program, path_of(id, data_of(folder)), folder))
            sources[NGINX] = Source(child=child, url=f"http://127.0.0.1:{port}/{id}")
        sides = [(side, lambda source=source: _download(source, size)) for side, source in sources.items()]
        for _, fetch in sides:
            fetch()  # into the page cache
        for repeat in range(run.repeats):
            for side, fetch in turns(repeat, sides):
                samples.take(side, repeat, fetch)
    samples.keep()
    if NGINX not in part.absent:
        against = ratios(samples.of(OURS, "rate"), samples.of(NGINX, "rate"))
        row = part.add(OURS, "rate / nginx", "x", against)
        part.promise(f"download of {size // MEBIBYTE} MiB against nginx", row.median, "x", at_least=0.7)
    return part


def _download(source: Source, size: int) -> dict[tuple[str, str], float]:
    before = machine.usage(source.child.pid).cpu
    shown = "%{http_code} %{size_download} %{time_total}"
    command = ["curl", "--silent", "--output", "/dev/null", "--write-out", shown, source.url]
    found = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN, check=False)
    status, got, seconds = [*found.stdout.split(), "", "", ""][:3]
    if found.returncode != 0 or status != "200" or int(got) != size:
        raise ChildFailed(f"curl ended with {found.returncode}: status {status}, {got} of {size} bytes")
    return {
        ("rate", "MB/s"): size / float(seconds) / 1e6,
        ("server CPU", "s"): machine.usage(source.child.pid).cpu - before,
    }


@contextmanager
def _ours(run: Run, folder: Path, protocol: str) -> Iterator[tuple[int, Child]]:
    environment = {DIRECTORY: str(folder), "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}

    def start(port: str) -> Child:
        command = [sys.executable, "-m", "uvicorn", "benchmarks.app:app", "--port", port, "--http", protocol]
        options = ["--loop", "uvloop", "--no-access-log", "--log-level", "warning"]
        return Child([*command, *options], environment=environment, log=folder / f"server-{port}.log")

    with run.serving(start) as found:
        yield found


def _stored(ours: tuple[int, Child], size: int) -> str:
    """Upload the file and return its id, once its task has ended."""
    port, child = ours
    scratch = child.log.with_name("upload.bin")
    with scratch.open("wb") as file:
        for _ in range(size // MEBIBYTE):
            file.write(os.urandom(MEBIBYTE))
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=WITHIN) as client:
        with scratch.open("rb") as file:
            answer = client.post("/upload", files={"file": ("large.bin", file)})
        scratch.unlink()
        if answer.status_code != 202:
            raise ChildFailed(f"POST /upload answered {answer.status_code}: {answer.text[:300]}")
        deadline = time.monotonic() + WITHIN
        while time.monotonic() < deadline:
            document = client.get(f"/afterwards/tasks/{answer.json()['id']}", headers={"Prefer": "wait=20"}).json()
            if document["state"] == "succeeded":
                return str(document["files"][0]["id"])
    raise ChildFailed(f"the upload's task was not done within {WITHIN:.0f} s")


def _nginx() -> str | None:
    """Debian keeps it beside the search path of users."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextmanager
def _serving_nginx(run: Run, program: str, file: Path, folder: Path) -> Iterator[tuple[int, Child]]:
    def start(port: str) -> Child:
        lines = [
            "user root root;" if os.geteuid() == 0 else "",  # the file may only be read by its owner
            "daemon off; worker_processes 1;",
            f"pid {folder}/nginx.pid; error_log stderr crit;",
            "events {}",
            "http { access_log off; sendfile on; tcp_nopush on; default_type application/octet-stream;",
            *(
                f"{kind}_temp_path {folder}/nginx-{kind};"
                for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            ),
            f"server {{ listen 127.0.0.1:{port}; root {file.parent}; }} }}",
        ]
        settings = folder / "nginx.conf"
        settings.write_text("\n".join(lines))
        return Child([program, "-c", str(settings)], environment={}, log=folder / "nginx.log")

    with run.serving(start) as found:
        yield found
