"""A request that is sent again under the same Idempotency-Key has been one request, whatever happened to its answer."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any

import apsw
import httpx
import pytest
from fastapi import APIRouter, Body, Depends, FastAPI, Form, HTTPException, Request, Response, UploadFile
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.background import BackgroundTask

from afterwards import BackgroundTasks
from afterwards._domain.keys import KEPT
from afterwards._engine.clock import SystemClock
from afterwards._store.sqlite import writer
from afterwards._store.sqlite.store import SqliteStore
from afterwards._web import system
from afterwards._web.problems import problem
from afterwards.errors import KeyInUse, KeyReused
from store.faults import FaultyDisk, disk_error
from support import work
from support.proxy import losing
from support.server import serving
from support.site import Site, until

KEY = {"Idempotency-Key": '"5f3c9c0e-1f0a-4c3e-9d5e-7a1d2b3c4d5e"'}
BARE = {"Idempotency-Key": "5f3c9c0e-1f0a-4c3e-9d5e-7a1d2b3c4d5e"}
BIG = 3_000_000  # bytes


@contextmanager
def client_of(site: Site) -> Iterator[httpx.Client]:
    limits = httpx.Limits(max_connections=50)
    with (
        serving(site) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=work.DEADLINE, limits=limits) as client,
    ):
        yield client


@pytest.fixture
def client(site: Site) -> Iterator[httpx.Client]:
    with client_of(site) as client:
        yield client


def is_replay(answer: httpx.Response) -> bool:
    return answer.headers.get("idempotent-replayed") == "true"


def same(answer: httpx.Response) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """All of an answer that the second must have in common with the first."""
    own = (b"date", b"server", b"idempotent-replayed")
    headers = [(name.lower(), value) for name, value in answer.headers.raw]
    return answer.status_code, [header for header in headers if header[0] not in own], answer.content


def refusal(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == answer.status_code
    return answer.status_code, document["code"]


REUSED = (422, "idempotency_key_reused")
IN_USE = (409, "idempotency_key_in_use")


def test_the_same_request_again_gets_the_same_answer_and_no_second_task(site: Site, client: httpx.Client):
    """Status, headers, links and body: a client that reads any of them must not notice which try it was."""
    Tasks = site.Tasks

    @site.app.post("/", status_code=202)
    async def endpoint(order: dict[str, int], tasks: Tasks, response: Response) -> dict[str, Any]:
        tasks.add_task(work.note, order["n"])
        tasks.add_task(work.note_async, order["n"])
        response.headers["X-Order"] = "ü5"
        response.set_cookie("seen", "1")
        response.set_cookie("more", "2")
        return {"order": order}

    first = client.post("/", json={"n": 5}, headers=KEY)
    client.cookies.clear()  # with the cookies of the answer it would be another caller
    again = client.post("/", json={"n": 5}, headers=BARE)

    assert first.status_code == 202
    assert len(first.headers.get_list("link")) == 2
    assert len(first.headers.get_list("set-cookie")) == 2
    assert same(again) == same(first)
    assert not is_replay(first)
    assert is_replay(again)
    assert len(site.settled(2)) == 2
    assert client.get(first.links["status"]["url"]).json()["state"] == "succeeded"
    assert work.journal == [5, 5]


def test_without_the_header_each_request_is_its_own(site: Site, client: httpx.Client):
    Tasks = site.Tasks

    @site.app.post("/")
    async def endpoint(tasks: Tasks) -> None:
        tasks.add_task(work.note)

    answers = [client.post("/") for _ in range(2)]

    assert not any(is_replay(answer) for answer in answers)
    assert len(site.settled(2)) == 2


@pytest.mark.parametrize(
    "change",
    [{"json": {"n": 6}}, {"params": {"q": "2"}}, {"url": "/things/2"}, {"content": b'{"n": 5}'}],
    ids=["body", "query", "path", "type"],
)
def test_another_request_under_the_same_key_is_refused(site: Site, client: httpx.Client, change):
    """It would be given an answer to what it never asked."""
    Tasks = site.Tasks

    @site.app.post("/things/{thing}")
    async def endpoint(thing: str, request: Request, tasks: Tasks) -> None:
        await request.body()
        tasks.add_task(work.note, thing)

    same_request = {"url": "/things/1", "json": {"n": 5}, "params": {"q": "1"}, "headers": KEY}
    first = client.post(**same_request)
    other = {**same_request, **change}
    if "content" in change:
        del other["json"]

    assert first.status_code == 200
    assert refusal(client.post(**other)) == REUSED
    assert same(client.post(**same_request)) == same(first)
    assert len(site.settled(1)) == 1


@pytest.mark.parametrize("value", ["", '""', "x" * 256, "schlüssel", '"open', "tab\there"])
def test_what_is_no_key_is_refused_before_anything_is_done(site: Site, client: httpx.Client, value):
    """Taken for none, each try would be a request of its own, and the client believes that it is safe."""
    Tasks = site.Tasks

    @site.app.post("/")
    async def endpoint(tasks: Tasks) -> None:
        tasks.add_task(work.note)

    answer = client.post("/", headers={"Idempotency-Key": value.encode()})

    assert refusal(answer) == (400, "invalid_idempotency_key")
    twice = client.post("/", headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")])
    assert refusal(twice) == (400, "invalid_idempotency_key")
    assert site.rows() == []


def test_while_the_first_runs_the_others_are_told_to_wait(site: Site, client: httpx.Client):
    """Of twenty at once one runs. The others did nothing, and get its answer when they come again."""
    Tasks = site.Tasks
    entered: list[int] = []

    @site.app.post("/")
    async def endpoint(n: int, tasks: Tasks) -> str:
        entered.append(n)
        await asyncio.to_thread(work.gate.wait, work.DEADLINE)
        tasks.add_task(work.note, n)
        return "done"

    with ThreadPoolExecutor(20) as pool:
        sent = [pool.submit(client.post, "/?n=1", headers=KEY) for _ in range(20)]
        until(lambda: sum(one.done() for one in sent) == 19)
        refused = [one.result() for one in sent if one.done()]
        assert refusal(client.post("/?n=2", headers=KEY)) == IN_USE
        work.gate.set()
        answers = [one.result() for one in sent]

    assert [refusal(answer) for answer in refused] == [IN_USE] * 19
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}
    [first] = [answer for answer in answers if answer.status_code == 200]
    assert entered == [1]
    assert same(client.post("/?n=1", headers=KEY)) == same(first)
    assert len(site.settled(1)) == 1


def test_twenty_at_once_that_come_again_until_they_are_answered_are_one(site: Site, client: httpx.Client):
    """What clients do: they wait, and try again."""
    Tasks = site.Tasks

    @site.app.post("/")
    async def endpoint(tasks: Tasks) -> str:
        await asyncio.sleep(0)
        tasks.add_task(work.note)
        return "done"

    def insist(_: int) -> httpx.Response:
        answers: list[httpx.Response] = []
        until(lambda: answers.append(client.post("/", headers=KEY)) or answers[-1].status_code != 409)
        return answers[-1]

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(insist, range(20)))

    assert {str(same(answer)) for answer in answers} == {str(same(answers[0]))}
    assert sum(not is_replay(answer) for answer in answers) == 1
    assert len(site.settled(1)) == 1


@pytest.mark.parametrize("size", [10, BIG])
def test_a_form_is_the_same_with_another_boundary(site: Site, client: httpx.Client, size):
    """Each try of a browser makes its own. The file counts, its name counts, the fields count."""
    Tasks = site.Tasks

    @site.app.post("/")
    async def endpoint(file: UploadFile, note: Annotated[str, Form()], tasks: Tasks) -> str:
        assert await file.read(1) == b"a"
        tasks.add_task(work.read_upload, file)
        return note

    def send(boundary: str, content: bytes = b"a" * size, name: str = "a.bin", note: str = "x") -> httpx.Response:
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", **KEY}
        return client.post("/", files={"file": (name, content)}, data={"note": note}, headers=headers)

    first = send("one")

    assert first.status_code == 200
    assert same(send("two")) == same(first)
    assert refusal(send("three", content=b"b" * size)) == REUSED
    assert refusal(send("three", name="b.bin")) == REUSED
    assert refusal(send("three", note="y")) == REUSED
    [row] = site.settled(1)
    assert [file.size for file in row.files] == [size]
    until(lambda: len(site.files()) == (size > 65_536), site.files)


@pytest.mark.parametrize("reads", ["form", "stream"])
def test_a_body_that_the_endpoint_reads_itself_counts_too(site: Site, client: httpx.Client, reads):
    """As a form with any boundary, or piece by piece as it came."""
    Tasks = site.Tasks

    @site.app.post("/")
    async def endpoint(request: Request, tasks: Tasks) -> None:
        if reads == "form":
            assert (await request.form())["note"] == "x"
        else:
            async for _ in request.stream():
                break  # and leaves the rest where it is
        tasks.add_task(work.note)

    def send(boundary: str, content: bytes) -> httpx.Response:
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", **KEY}
        return client.post("/", files={"file": ("a", content)}, data={"note": "x"}, headers=headers)

    first = send("one", b"a" * BIG)

    assert first.status_code == 200
    assert same(send("two", b"a" * BIG)) == same(first)
    assert refusal(send("three", b"a" * BIG + b"b")) == REUSED
    assert len(site.settled(1)) == 1


def test_a_body_of_unknown_length_is_the_same_however_it_is_cut(site: Site, client: httpx.Client):
    Tasks = site.Tasks

    @site.app.post("/")
    async def endpoint(body: Annotated[Any, Body()], tasks: Tasks) -> None:
        tasks.add_task(work.note, body["n"])

    headers = {**KEY, "Content-Type": "application/json"}
    first = client.post("/", content=iter([b'{"n":', b" 1}"]), headers=headers)

    assert first.status_code == 200
    assert same(client.post("/", content=b'{"n": 1}', headers=headers)) == same(first)
    assert len(site.settled(1)) == 1


def test_a_key_belongs_to_its_caller_and_its_route(site: Site, client: httpx.Client):
    """Nobody gets a stranger's answer, and numbering one's orders from 1 is no mistake."""
    Tasks = site.Tasks
    inner = APIRouter()

    @inner.post("/orders/{order}")
    @inner.put("/orders/{order}")
    async def endpoint(order: str, tasks: Tasks) -> str:
        tasks.add_task(work.note, order)
        return order

    for prefix in ("/one", "/two"):
        site.app.include_router(inner, prefix=prefix)
    mounted = FastAPI()
    mounted.include_router(inner, prefix="/one")
    site.app.mount("/mounted", mounted)
    site.afterwards.bind_mounts()
    requests = [
        ("POST", "/one/orders/1", {"Authorization": "Bearer ann"}),
        ("POST", "/one/orders/1", {"Authorization": "Bearer bob"}),
        ("POST", "/one/orders/1", {"Cookie": "session=ann"}),
        ("POST", "/one/orders/1", {"X-API-Key": "ann"}),
        ("POST", "/one/orders/1", {}),
        ("PUT", "/one/orders/1", {}),
        ("POST", "/two/orders/1", {}),
        ("POST", "/mounted/one/orders/1", {}),
    ]

    for again in (False, True):
        for method, path, caller in requests:
            answer = client.request(method, path, headers={**KEY, **caller})
            assert (answer.status_code, is_replay(answer)) == (200, again), (method, path, caller)

    assert len(site.settled(len(requests))) == len(requests)
    assert refusal(client.post("/one/orders/2", headers=KEY)) == REUSED


@pytest.mark.parametrize("ends", ["raises", "refuses", "is not valid", "fails after", "queues nothing", "is unsaved"])
def test_where_nothing_was_stored_the_key_is_free(new_site, ends):
    """The next try must be able to succeed, corrected or not."""
    site: Site = new_site("b")
    failing = [True, True]

    async def after() -> AsyncIterator[None]:
        yield
        if ends == "fails after" and failing and failing.pop():
            raise HTTPException(418)

    @site.app.post("/")
    async def endpoint(n: int, tasks: site.Tasks, _: Annotated[None, Depends(after, scope="function")]) -> int:
        if ends != "fails after" and failing and failing.pop():
            if ends == "is unsaved":
                tasks.add_task(work.Printer("p").note, n)
            elif ends != "queues nothing":
                tasks.add_task(work.note, "not stored")
            if ends == "raises":
                raise RuntimeError("no luck")
            if ends == "refuses":
                raise HTTPException(418)
            return n
        tasks.add_task(work.note, n)
        return n

    with client_of(site) as client:
        query = "x" if ends == "is not valid" else "1"
        alone = {**KEY, "Connection": "close"}  # a server closes the connection of a request that raised
        failed = [client.post(f"/?n={query}", headers=alone) for _ in range(2)]
        failing.clear()
        first = client.post("/?n=2", headers=KEY)

        expected = {"raises": 500, "is not valid": 422, "queues nothing": 200, "is unsaved": 200}.get(ends, 418)
        assert [(one.status_code, is_replay(one)) for one in failed] == [(expected, False)] * 2
        assert (first.status_code, first.json(), is_replay(first)) == (200, 2, False)
        assert same(client.post("/?n=2", headers=KEY)) == same(first)
    assert len(site.settled(1)) == 1


def test_an_answer_with_tasks_is_kept_whatever_it_says(site: Site, client: httpx.Client):
    """The tasks are stored, so the request has been done, even where its endpoint calls that an error."""
    Tasks = site.Tasks

    @site.app.post("/")
    async def endpoint(tasks: Tasks) -> Response:
        tasks.add_task(work.note)
        return JSONResponse({"sorry": True}, 503)

    first = client.post("/", headers=KEY)

    assert first.status_code == 503
    assert same(client.post("/", headers=KEY)) == same(first)
    assert len(site.settled(1)) == 1


@pytest.mark.parametrize("kind", ["stream", "large", "no content"])
def test_of_an_answer_that_is_not_kept_whole_status_and_links_are(site: Site, client: httpx.Client, kind):
    """A stream has gone by. Which task it was about is what a second try must know."""
    Tasks = site.Tasks

    @site.app.post("/")
    async def endpoint(tasks: Tasks) -> Response:
        tasks.add_task(work.note)
        headers = {"X-Order": "5"}
        if kind == "stream":
            return StreamingResponse(iter(["a", "b"]), 202, headers, "text/plain")
        if kind == "large":
            return Response(b"x" * BIG, 202, headers)
        return Response(status_code=204, headers=headers)

    first = client.post("/", headers=KEY)
    again = client.post("/", headers=KEY)

    assert again.status_code == first.status_code
    assert again.headers["link"] == first.headers["link"]
    assert again.headers["x-order"] == "5"
    assert again.content == b""
    assert is_replay(again)
    assert "content-type" not in again.headers
    assert len(site.settled(1)) == 1


def test_tasks_that_only_the_response_carries_have_a_key_too(new_site):
    """Its endpoint asks for no background tasks, so nothing is known before it has answered."""
    site: Site = new_site("b")
    calls: list[int] = []

    @site.app.post("/")
    async def endpoint() -> Response:
        calls.append(1)
        return JSONResponse("done", 202, background=BackgroundTask(work.note, "x"))

    @site.app.post("/nothing")
    async def nothing() -> str:
        calls.append(2)
        return "nothing"

    with client_of(site) as client:
        first = client.post("/", headers=KEY)
        assert same(client.post("/", headers=KEY)) == same(first)
        assert [is_replay(client.post("/nothing", headers=KEY)) for _ in range(2)] == [False, False]

    assert len(site.settled(1)) == 1
    assert calls == [1, 2, 2]


def test_after_a_day_a_key_is_free_again(site: Site, client: httpx.Client):
    """Nothing is kept for ever, and nobody tries again for so long."""
    Tasks = site.Tasks

    class Later(SystemClock):
        passed = 0

        def now(self) -> int:
            return super().now() + self.passed

    @site.app.post("/")
    async def endpoint(tasks: Tasks) -> None:
        tasks.add_task(work.note)

    clock = site.afterwards._system.engine.clock = Later()
    first = client.post("/", headers=KEY)
    clock.passed = KEPT - 60_000_000
    assert same(client.post("/", headers=KEY)) == same(first)

    clock.passed = KEPT + 1
    again = client.post("/", headers=KEY)

    assert (again.status_code, is_replay(again)) == (200, False)
    assert again.headers["link"] != first.headers["link"]
    assert len(site.settled(2)) == 2


async def test_a_request_that_is_cancelled_frees_its_key(site: Site):
    """Its client has gone, and comes again with the same key."""
    Tasks = site.Tasks
    entered = asyncio.Event()

    @site.app.post("/")
    async def endpoint(tasks: Tasks) -> None:
        tasks.add_task(work.note)
        if not entered.is_set():
            entered.set()
            await asyncio.Event().wait()

    transport = httpx.ASGITransport(app=site)
    async with httpx.AsyncClient(transport=transport, base_url="http://site") as client:
        await site.afterwards.start()
        request = asyncio.create_task(client.post("/", headers=KEY))
        async with asyncio.timeout(work.DEADLINE):
            await entered.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request

        async with asyncio.timeout(work.DEADLINE):
            again = await client.post("/", headers=KEY)

    assert (again.status_code, is_replay(again)) == (200, False)
    assert len(site.rows()) == 1


def test_a_commit_that_nobody_knows_of_is_found_out_by_the_next_try(new_site, monkeypatch: pytest.MonkeyPatch):
    """503 says: unknown. The same key again says which: there with its answer, or done now; never twice."""
    disk = FaultyDisk("keys")
    monkeypatch.setattr(writer, "REOPEN", 0.05)
    monkeypatch.setattr(system, "SqliteStore", partial(SqliteStore, vfs=disk.name))
    site: Site = new_site()

    @site.app.post("/")
    async def endpoint(n: int, tasks: BackgroundTasks) -> str:
        if n not in failed:
            failed.add(n)
            disk.plan["sync", "-wal"] = disk_error(apsw.SQLITE_IOERR_FSYNC)
        return tasks.add_task(work.note, n).id

    failed: set[int] = set()
    with client_of(site) as client:
        for n in range(5):
            unsure = post_order(client, n)
            assert (unsure.status_code, unsure.headers["retry-after"]) == (503, "1")
            assert post_order(client, n).status_code == 503  # it fails until it is mended
            disk.plan.clear()
            assert insist_on_order(client, n).json() == post_order(client, n).json()

    assert disk.raised >= 5
    assert sorted(row.arguments for row in site.settled(5)) == [f"[[{n}],{{}}]" for n in range(5)]
    assert sorted(work.journal) == list(range(5))


def post_order(client: httpx.Client, n: int) -> httpx.Response:
    return client.post("/", params={"n": n}, headers={"Idempotency-Key": f"order-{n}"})


def insist_on_order(client: httpx.Client, n: int) -> httpx.Response:
    answers: list[httpx.Response] = []

    def is_done() -> bool:
        answers.append(post_order(client, n))
        assert answers[-1].status_code in (200, 409, 503), answers[-1].text
        return answers[-1].status_code == 200

    until(is_done)
    return answers[-1]


def test_a_key_can_be_given_to_a_route_of_ours(new_site):
    """What stores something other than tasks uses the same keys: its answer is kept, or its key is free."""
    site: Site = new_site()
    made: list[int] = []

    @site.app.get("/ours")
    async def endpoint(request: Request, content: str, fail: bool = False) -> Response:
        keys, fingerprint = site.afterwards._system.keys, content.encode()
        try:
            async with keys.answered(request, lambda: fingerprint) as (slot, replayed):
                if replayed is not None:
                    return replayed
                made.append(1)
                if fail:
                    raise HTTPException(418)
                response = Response(status_code=201, headers={"Location": f"/uploads/{len(made)}"})
                await slot.keep(response)
                return response
        except (KeyReused, KeyInUse) as error:
            return problem(error, "/ours")

    with client_of(site) as client:
        assert [client.get("/ours?content=a").headers["location"] for _ in range(2)] == ["/uploads/1", "/uploads/2"]
        assert client.get("/ours?content=a&fail=1", headers=KEY).status_code == 418
        first = client.get("/ours?content=b", headers=KEY)
        assert first.headers["location"] == "/uploads/4"
        assert same(client.get("/ours?content=b", headers=KEY)) == same(first)
        assert refusal(client.get("/ours?content=a", headers=KEY)) == REUSED
    assert len(made) == 4


class Tries:
    """A client that tells nobody whether its first try has come through."""

    def __init__(self, site: Site, number: int) -> None:
        self.number = number
        self.site = site

        @site.app.post("/", status_code=202)
        async def endpoint(n: int, tasks: BackgroundTasks) -> str:
            return tasks.add_task(work.note, n).id

    def run(self) -> None:
        with serving(self.site) as port, losing(port) as proxy:
            ids = [self._try(n, port, proxy.port) for n in range(self.number)]

        assert proxy.lost == [b"HTTP/1.1 202 Accepted"] * self.number
        rows = self.site.settled(self.number)
        assert sorted(row.id for row in rows) == sorted(ids)
        assert sorted(work.journal) == list(range(self.number))

    def _try(self, n: int, port: int, lossy: int) -> str:
        headers = {"Idempotency-Key": f'"order-{n}"'}
        with pytest.raises(httpx.TransportError):
            httpx.post(f"http://127.0.0.1:{lossy}/?n={n}", headers=headers, timeout=work.DEADLINE)
        again = httpx.post(f"http://127.0.0.1:{port}/?n={n}", headers=headers, timeout=work.DEADLINE)
        assert (again.status_code, is_replay(again)) == (202, True)
        assert again.links["status"]["url"].endswith(again.json())
        id: str = again.json()
        return id


def test_an_answer_that_is_lost_on_its_way_is_given_again(new_site):
    """The server has done it, the client cannot know, and asks again: exactly one task for each key."""
    Tries(new_site(), 30).run()


@pytest.mark.torture
@pytest.mark.timeout(900)
def test_a_thousand_answers_that_are_lost_are_given_again(new_site, monkeypatch: pytest.MonkeyPatch):
    site = new_site()
    monkeypatch.setattr(site, "at_start", _Nothing())
    Tries(site, 1000).run()


class _Nothing(list[Any]):
    """A recorder for a test that makes too many answers to look at each."""

    def append(self, _: Any) -> None:
        return
