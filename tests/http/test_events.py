"""The event stream: everything that happened, once, on any process, until task, client or server comes to its end."""

import json
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from afterwards import BackgroundTasks
from support import work
from support.data import until
from support.server import Program, program, serving
from support.site import Site
from support.work import DEADLINE

# A program whose task says when it has begun, tells how far it is, and ends when the file `go` is there.
SOURCE = """
import asyncio, logging
from pathlib import Path
from fastapi import FastAPI
from afterwards import Afterwards, BackgroundTasks, progress

app = FastAPI()
afterwards = Afterwards(app, drain=0)
here = Path(__file__).parent

async def steps():
    logging.getLogger("steps").warning("line one\\nline two \\u2028 \\x85 end")
    progress(1, 2, "half", unit="pages")
    while not (here / "go").exists():
        await asyncio.sleep(0.01)
    progress(2, 2)
    return "gone"

@app.post("/steps")
async def queue(background_tasks: BackgroundTasks):
    return background_tasks.add_task(steps).id
"""


class Frame(NamedTuple):
    event: str
    id: str | None
    data: Any


class Stream:
    """Reads an event stream as the standard says: fields by line, an event at each empty one."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.iter_lines()
        self.retry: str | None = None

    def next(self) -> Frame | None:
        """The next event, None at the end."""
        fields: dict[str, str] = {}
        for line in self._lines:
            if line.startswith(":"):
                continue  # a comment, so that the connection does not look dead
            name, _, value = line.partition(": ")
            if name == "retry":
                self.retry = value
            elif line:
                assert name not in fields
                fields[name] = value
            elif "event" in fields:
                return Frame(fields["event"], fields.get("id"), json.loads(fields["data"]))
        return None

    def until(self, wanted: Callable[[Frame], bool]) -> list[Frame]:
        """The events up to a certain one, which must come."""
        frames: list[Frame] = []
        while not frames or not wanted(frames[-1]):
            frame = self.next()
            assert frame is not None, frames
            frames.append(frame)
        return frames

    def rest(self) -> list[Frame]:
        frames: list[Frame] = []
        while (frame := self.next()) is not None:
            frames.append(frame)
        return frames


@contextmanager
def opened(port: int, id: str, last: str | None = None) -> Iterator[Stream]:
    headers = {} if last is None else {"Last-Event-ID": last}
    url = f"http://127.0.0.1:{port}/afterwards/tasks/{id}/events"
    with httpx.stream("GET", url, headers=headers, timeout=DEADLINE) as response:
        yield Stream(response)


@contextmanager
def steps(tmp_path: Path, *more: str, port: int = 0) -> Iterator[Program]:
    """The program of `SOURCE`, as anybody would start it."""
    folder = tmp_path / "program"
    folder.mkdir(exist_ok=True)
    (folder / "stepping.py").write_text(SOURCE)
    with program(
        "uvicorn", "stepping:app", "--port", str(port), *more, folder=folder, data=tmp_path / "data"
    ) as running:
        yield running


def free_port() -> int:
    """A port for several workers: with 0 the server does not say which one they got."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


def go(tmp_path: Path) -> None:
    (tmp_path / "program" / "go").touch()


def post(port: int, path: str) -> str:
    id: str = httpx.post(f"http://127.0.0.1:{port}{path}", timeout=DEADLINE).json()
    return id


def half(frame: Frame) -> bool:
    return frame.event == "progress" and frame.data["done"] == 1


@pytest.fixture
def site(new_site: Any) -> Site:
    site: Site = new_site("a", token="t")

    def endpoint(function: Any) -> Any:
        async def queue(background_tasks: BackgroundTasks) -> str:
            return background_tasks.add_task(function, "x").id

        return queue

    for function in (work.note, work.fail, work.hold):
        site.app.post(f"/{function.__name__}")(endpoint(function))
    return site


def test_a_stream_tells_everything_from_the_start_and_ends(tmp_path: Path):
    """State, log, progress and the document at last: what a page needs to show a task, over one connection."""
    with steps(tmp_path) as running:
        id = post(running.port, "/steps")
        with opened(running.port, id) as stream:
            begin = stream.until(half)
            go(tmp_path)
            end = stream.rest()
            headers = stream.response.headers

    frames = [*begin, *end]
    assert [frame.event for frame in frames] == ["state", "log", "progress", "progress", "state", "done"]
    assert {key: frames[0].data[key] for key in ("state", "attempt")} == {"state": "running", "attempt": 1}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", frames[0].data["at"])
    assert frames[1].data["message"] == "line one\nline two \u2028 \x85 end"
    assert (frames[1].data["level"], frames[1].data["logger"]) == ("WARNING", "steps")
    assert {key: frames[2].data[key] for key in ("done", "total", "unit", "message")} == {
        "done": 1,
        "total": 2,
        "unit": "pages",
        "message": "half",
    }
    assert frames[4].data["state"] == "succeeded"
    assert (frames[5].data["id"], frames[5].data["state"], frames[5].data["result"]) == (id, "succeeded", "gone")
    positions = [int(frame.id) for frame in frames if frame.id is not None]
    assert positions == sorted(set(positions))
    assert frames[4].id is None  # so that whoever loses the connection here gets `done` all the same
    assert stream.retry == "1000"
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-store"
    assert headers["x-accel-buffering"] == "no"


def test_a_client_that_comes_back_to_another_process_misses_nothing(tmp_path: Path):
    """The log is in the database: whoever has it can go on where the other stopped, live."""
    with steps(tmp_path) as first, steps(tmp_path) as second:
        id = post(first.port, "/steps")
        with opened(first.port, id) as stream:
            before = stream.until(half)
        with opened(second.port, id, last=before[-1].id) as stream:
            go(tmp_path)
            after = stream.rest()
        with opened(second.port, id) as stream:
            whole = stream.rest()

    assert [*before, *after] == whole


def test_a_client_that_comes_back_after_a_crash_sees_what_followed(tmp_path: Path):
    """The server was killed in between, and the task was run again: the stream goes on with that."""
    with steps(tmp_path) as first:
        id = post(first.port, "/steps")
        with opened(first.port, id) as stream:
            before = stream.until(half)
            first.kill()
            with pytest.raises(httpx.HTTPError):
                stream.rest()
    with steps(tmp_path) as second:
        go(tmp_path)
        with opened(second.port, id, last=before[-1].id) as stream:
            after = stream.rest()

    states = [frame.data["state"] for frame in after if frame.event == "state"]
    assert states == ["queued", "running", "succeeded"]
    assert after[-1].data["interruptions"] == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_that_is_told_to_stop_ends_its_streams(tmp_path: Path, workers: int):
    """It would wait for them for ever. They end whole, so that the client comes back to the next server."""
    port = free_port()
    with steps(tmp_path, "--workers", str(workers), port=port) as running:
        running.wait_for("Application startup complete", times=workers)
        id = post(port, "/steps")
        with opened(port, id) as stream:
            stream.until(half)
            running.process.send_signal(signal.SIGTERM)
            rest = stream.rest()
        running.end()

    assert "done" not in [frame.event for frame in rest]
    assert "Traceback" not in running.text
    assert "Finished server process" in running.text


def test_when_all_was_seen_there_is_204(site: Site):
    """EventSource comes back until it is told to stay away."""
    with serving(site) as port:
        id = post(port, "/note")
        with opened(port, id) as stream:
            frames = stream.rest()
        with opened(port, id, last=frames[-1].id) as again:
            assert again.response.status_code == 204
        url = f"http://127.0.0.1:{port}/afterwards/tasks/{id}/events?last_event_id={frames[-1].id}"
        assert httpx.get(url).status_code == 204
        with opened(port, id, last=frames[-3].id if frames[-3].id else "0") as before:
            assert [frame.event for frame in before.rest()] == ["state", "done"]

    assert frames[-1].event == "done"


def test_a_task_that_is_run_again_is_told_on(site: Site):
    """Its end was not the end: the old client gets what is new, a fresh one all of it and one `done`."""
    with serving(site) as port:
        id = post(port, "/fail")
        with opened(port, id) as stream:
            first = stream.rest()
        url = f"http://127.0.0.1:{port}/afterwards/tasks/{id}/retry"
        assert httpx.post(url, headers={"Authorization": "Bearer t"}).status_code == 202
        with opened(port, id, last=first[-1].id) as stream:
            second = stream.rest()
        with opened(port, id) as stream:
            whole = stream.rest()

    def states(frames: list[Frame]) -> list[str]:
        return [frame.data["state"] for frame in frames]

    assert states(second) == ["queued", "running", "failed", "failed"]
    assert states(whole) == ["running", "failed", *states(second)]
    assert [frame.event for frame in whole].count("done") == 1


def test_a_position_that_the_log_does_not_reach_starts_anew(site: Site):
    """The client comes from another data directory: what it saw there says nothing here."""
    with serving(site) as port:
        id = post(port, "/note")
        with opened(port, id, last="999999999") as stream:
            frames = stream.rest()

    assert [frame.event for frame in frames] == ["state", "state", "done"]


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "9" * 30, "²"])
def test_a_position_that_is_none_is_422(site: Site, last: str):
    """Not from the start, which would look as if it had been understood."""
    with site.client() as client:
        id = client.post("/note").json()
        answer = client.get(f"/afterwards/tasks/{id}/events", params={"last_event_id": last})

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_a_client_that_leaves_frees_what_its_stream_held(site: Site):
    """While the task says nothing for hours: leaving is noticed at once, not with the next event."""
    with serving(site) as port:
        id = post(port, "/hold")
        assert work.held.acquire(timeout=DEADLINE)
        hub = site.afterwards._system.engine.hub
        with opened(port, id) as stream:
            stream.until(lambda frame: frame.data["state"] == "running")
            until(lambda: len(hub._listeners) == 1)
        until(lambda: not hub._listeners)
        work.gate.set()
        site.settled(1)


def test_a_log_longer_than_one_batch_arrives_whole(new_site: Any):
    """Read in pieces, so that a long log is never in memory as a whole; none is lost between two of them."""
    site: Site = new_site("a")

    @site.app.post("/chatter")
    async def endpoint(background_tasks: BackgroundTasks) -> str:
        return background_tasks.add_task(work.chatter, 1_200).id

    with site.client() as client:
        id = client.post("/chatter").json()
        text = client.get(f"/afterwards/tasks/{id}/events").text

    assert re.findall(r'"message":"line (\d+)"', text) == [str(number) for number in range(1_200)]
    assert text.count("event: done") == 1


def test_an_unsaved_task_has_a_stream_too(new_site: Any):
    """A page that shows tasks need not know which of them could be stored."""
    site: Site = new_site("b")
    begun, gate = threading.Event(), threading.Event()
    ids: list[str] = []

    @site.app.post("/")
    async def endpoint(background_tasks: site.Tasks) -> None:  # type: ignore[name-defined]
        def closure() -> None:
            begun.set()
            assert gate.wait(DEADLINE)

        ids.append(background_tasks.add_task(closure).id)

    with serving(site) as port:
        httpx.post(f"http://127.0.0.1:{port}/")
        assert begun.wait(DEADLINE)
        with opened(port, ids[0]) as stream:
            begin = stream.until(lambda frame: frame.data["state"] == "running")
            gate.set()
            end = stream.rest()
        with opened(port, ids[0], last=end[-1].id) as again:
            assert again.response.status_code == 204

    assert [frame.data["state"] for frame in begin] == ["queued", "running"]
    assert [(frame.event, frame.data["state"]) for frame in end] == [("state", "succeeded"), ("done", "succeeded")]
    assert end[-1].data["durable"] is False
