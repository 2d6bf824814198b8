"""Who may list tasks, run them again and see tracebacks: nobody by accident."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import httpx
import pytest
from fastapi import Cookie, Depends, FastAPI, HTTPException
from fastapi.testclient import TestClient

from afterwards import Afterwards, BackgroundTasks
from support import work
from support.server import serving
from support.site import Site

HERE = ("127.0.0.1", 50_000)
TOKEN = "a token of forty-two characters or so"
PATHS = ["/afterwards/tasks", "/afterwards/tasks/ID?traceback=true", "/afterwards/tasks/ID/events?traceback=1"]


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AFTERWARDS_TOKEN", raising=False)


@pytest.fixture
def clients() -> Iterator[list[TestClient]]:
    clients: list[TestClient] = []
    yield clients
    for client in clients:
        client.__exit__()


def start(clients: list[TestClient], site: Site, address: tuple[str, int] = HERE) -> tuple[TestClient, str]:
    """A running application with one failed task, and the task's id."""

    @site.app.post("/fail")
    async def endpoint(background_tasks: BackgroundTasks) -> str:
        return background_tasks.add_task(work.fail, "x").id

    client = site.client(client=address)
    clients.append(client.__enter__())
    return client, client.post("/fail").json()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def asked(client: TestClient, id: str, headers: dict[str, str] | None = None) -> list[httpx.Response]:
    """Ask for everything that only an admin gets; the last one runs the task again."""
    answers = [client.get(path.replace("ID", id), headers=headers) for path in PATHS]
    return [*answers, client.post(f"/afterwards/tasks/{id}/retry", headers=headers)]


def codes(answers: list[httpx.Response]) -> set[tuple[int, Any]]:
    return {(one.status_code, one.json()["code"]) for one in answers}


def test_without_configuration_strangers_are_told_what_to_configure(new_site: Any, clients: list[TestClient]):
    """Also with the right token: it is for this machine."""
    site = new_site()
    client, id = start(clients, site, ("203.0.113.7", 50_000))

    answers = asked(client, id, bearer(site.afterwards._access.token))

    assert codes(answers) == {(403, "admin_not_configured")}
    assert "AFTERWARDS_TOKEN" in answers[0].json()["detail"]
    assert client.get(f"/afterwards/tasks/{id}").status_code == 200  # the id is all that its own task takes


def test_without_configuration_the_token_of_the_log_opens_this_machine(
    new_site: Any, clients: list[TestClient], caplog: pytest.LogCaptureFixture
):
    """No token: 401. A wrong one: 401 and said so. The one that was logged at the start: everything."""
    caplog.set_level(logging.INFO, "afterwards")
    client, id = start(clients, new_site())
    token = re.findall(r"until this program ends: (\w+)", caplog.text)[0]

    missing, wrong = asked(client, id), asked(client, id, bearer("x"))
    right = asked(client, id, bearer(token))

    assert codes(missing) == codes(wrong) == {(401, "admin_only")}
    assert {one.headers["www-authenticate"] for one in missing} == {'Bearer realm="afterwards"'}
    assert {one.headers["www-authenticate"] for one in wrong} == {'Bearer realm="afterwards", error="invalid_token"'}
    assert [one.status_code for one in right] == [200, 200, 200, 202]
    assert token not in "".join(one.text for one in [*missing, *wrong, *right])


def test_whoever_asks_without_a_token_finds_it_in_a_log_that_shows_only_warnings(
    new_site: Any, clients: list[TestClient], caplog: pytest.LogCaptureFixture
):
    """Most programs show no INFO. It is said once, not for each request."""
    caplog.set_level(logging.WARNING, "afterwards")
    site = new_site()
    client, _ = start(clients, site)
    assert site.afterwards._access.token not in caplog.text

    client.get("/afterwards/tasks")
    client.get("/afterwards/tasks")

    assert caplog.text.count(site.afterwards._access.token) == 1


def test_the_token_of_a_run_differs_between_data_directories(new_site: Any, clients: list[TestClient]):
    """Two programs on one machine, perhaps of two people: one's token does not open the other."""
    one, other = new_site(), new_site()
    start(clients, one)
    client, _ = start(clients, other)

    assert client.get("/afterwards/tasks", headers=bearer(one.afterwards._access.token)).status_code == 401


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
def test_every_address_of_this_machine_itself_is_local(new_site: Any, clients: list[TestClient], address: str):
    """401 asks for a token, 403 would say that none helps."""
    client, id = start(clients, new_site(), (address, 1))

    assert codes(asked(client, id)) == {(401, "admin_only")}


@pytest.mark.parametrize("address", ["10.0.0.1", "::ffff:10.0.0.1", "localhost", "testclient", ""])
def test_every_other_address_is_not(new_site: Any, clients: list[TestClient], address: str):
    """Names are not addresses: whoever sets them could set this one."""
    client, id = start(clients, new_site(), (address, 1))

    assert codes(asked(client, id)) == {(403, "admin_not_configured")}


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Forwarded-Host", "Via"])
def test_a_request_that_a_proxy_passed_on_is_not_local(new_site: Any, clients: list[TestClient], header: str):
    """A proxy on this machine connects from 127.0.0.1 for everybody."""
    site = new_site()
    client, id = start(clients, site)

    answers = asked(client, id, {header: "127.0.0.1", **bearer(site.afterwards._access.token)})

    assert codes(answers) == {(403, "admin_not_configured")}


@pytest.mark.parametrize("value", ["127.0.0.1", "203.0.113.7"])
def test_a_forwarded_address_that_the_server_believes_is_not_local_either(new_site: Any, value: str):
    """uvicorn puts X-Forwarded-For in the place of the address when the proxy is on this machine."""
    site = new_site()
    with serving(site, proxy_headers=True) as port:
        answer = httpx.get(f"http://127.0.0.1:{port}/afterwards/tasks", headers={"X-Forwarded-For": value})
        direct = httpx.get(f"http://127.0.0.1:{port}/afterwards/tasks")

    assert answer.status_code == 403
    assert direct.status_code == 401


@pytest.mark.parametrize("way", ["argument", "environment"])
def test_a_configured_token_opens_from_everywhere(
    new_site: Any, clients: list[TestClient], monkeypatch: pytest.MonkeyPatch, way: str
):
    """And is the only thing that does: being on this machine is no longer enough for anything."""
    if way == "environment":
        monkeypatch.setenv("AFTERWARDS_TOKEN", TOKEN)
    site = new_site(token=TOKEN) if way == "argument" else new_site()
    client, id = start(clients, site, ("203.0.113.7", 50_000))

    assert codes(asked(client, id)) == {(401, "admin_only")}
    assert codes(asked(client, id, bearer(TOKEN[:-1]))) == {(401, "admin_only")}
    assert codes(asked(client, id, {"Authorization": f"Basic {TOKEN}"})) == {(401, "admin_only")}
    assert [one.status_code for one in asked(client, id, bearer(TOKEN))] == [200, 200, 200, 202]


def test_a_token_beyond_ascii_is_wrong_and_no_crash(new_site: Any, clients: list[TestClient]):
    """Headers are bytes; a comparison that refuses some would be a 500 for everybody to find."""
    client, _ = start(clients, new_site(token=TOKEN))

    answer = client.get("/afterwards/tasks", headers={"Authorization": "Bearer \u00e4".encode("latin-1")})  # type: ignore[dict-item]

    assert answer.status_code == 401


def test_the_applications_own_dependency_decides(new_site: Any, clients: list[TestClient]):
    """What it raises is answered as the application answers it; no token is asked for."""

    def admin(role: str = Cookie("")) -> None:
        if role != "admin":
            raise HTTPException(418, "not you")

    client, id = start(clients, new_site(admin=Depends(admin)), ("203.0.113.7", 50_000))

    refused = asked(client, id)
    client.cookies.set("role", "admin")
    right = asked(client, id)

    assert {(one.status_code, one.json()["detail"]) for one in refused} == {(418, "not you")}
    assert [one.status_code for one in right] == [200, 200, 200, 202]


def test_a_dependency_that_returns_false_refuses(new_site: Any, clients: list[TestClient]):
    """Somebody will write one that answers instead of raising; it must not open the door to all."""

    async def is_admin() -> bool:
        return False

    client, id = start(clients, new_site(admin=Depends(is_admin)))

    assert {one.status_code for one in asked(client, id)} == {403}


def test_only_an_admin_who_asks_sees_tracebacks(new_site: Any, clients: list[TestClient]):
    """With the id alone neither the document nor the events tell where in the program it failed."""
    client, id = start(clients, new_site(token=TOKEN))

    public = [client.get(path.replace("ID", id).partition("?")[0]).text for path in PATHS[1:]]
    private = [client.get(path.replace("ID", id), headers=bearer(TOKEN)).text for path in PATHS]

    assert all("no luck with x" in text and "Traceback" not in text and "work.py" not in text for text in public)
    assert all("no luck with x" in text and "Traceback" in text and "work.py" in text for text in private)


def test_a_list_is_narrowed_and_read_page_by_page(new_site: Any, clients: list[TestClient]):
    """`rel=next` leads through all of it, newest first, nothing twice, and ends."""
    site = new_site(token=TOKEN)

    @site.app.post("/note")
    async def endpoint(background_tasks: BackgroundTasks) -> str:
        return background_tasks.add_task(work.note, "x").id

    client, failed = start(clients, site)
    client.headers.update(bearer(TOKEN))
    ids = [failed, *(client.post("/note").json() for _ in range(4))]
    path, pages = "/afterwards/tasks?limit=2", []
    while path:
        page = client.get(path)
        pages.append([one["id"] for one in page.json()["tasks"]])
        path = page.links.get("next", {}).get("url", "")

    def narrowed(**query: str) -> list[str]:
        return [one["id"] for one in client.get("/afterwards/tasks", params=query).json()["tasks"]]

    assert pages == [ids[:2:-1], ids[2:0:-1], ids[:1]]
    assert narrowed(state="failed") == [failed]
    assert narrowed(name="support.work:note", state="succeeded", limit="1") == ids[:-2:-1]
    assert narrowed(queue="other") == []


def test_a_damaged_row_does_not_hide_the_others_of_a_list(new_site: Any, clients: list[TestClient]):
    """Somebody has been in the database with an editor; what can be read is shown."""
    site = new_site(token=TOKEN)
    client, id = start(clients, site)
    client.headers.update(bearer(TOKEN))
    connection = apsw.Connection(str(site.afterwards.data / "afterwards.db"))
    connection.execute(
        "UPDATE task SET error = '{', progress = '[', created_at = 9e17, result = NULL WHERE id = ?", (id,)
    )
    connection.close()

    [shown] = client.get("/afterwards/tasks").json()["tasks"]

    assert (shown["id"], shown["state"], shown["progress"]) == (id, "failed", None)
    assert shown["error"]["type"] == "damaged"
    assert shown["created_at"].startswith("9999-12-31")


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=201", "limit=x", "state=done", "before=x", "before=%00"],
)
def test_a_filter_that_means_nothing_is_422(new_site: Any, clients: list[TestClient], query: str):
    """Not an empty list, which would look like an answer."""
    client, _ = start(clients, new_site(token=TOKEN))

    answer = client.get(f"/afterwards/tasks?{query}", headers=bearer(TOKEN))

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_a_page_after_a_task_that_is_gone_is_404(new_site: Any, clients: list[TestClient]):
    """It would be the first page again, and a reader of all pages would never end."""
    client, id = start(clients, new_site(token=TOKEN))
    gone = id[:-1] + ("0" if id[-1] != "0" else "1")

    answer = client.get(f"/afterwards/tasks?before={gone}", headers=bearer(TOKEN))

    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_task")


def test_a_task_that_has_ended_runs_again_and_one_that_has_not_does_not(new_site: Any):
    """202 with the task queued; 409 while it is open; 404 for none."""
    site = new_site(token=TOKEN)

    @site.app.post("/hold")
    async def endpoint(background_tasks: BackgroundTasks) -> str:
        return background_tasks.add_task(work.hold, "x").id

    with serving(site) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=bearer(TOKEN)) as client:
        id = client.post("/hold").json()
        assert work.held.acquire(timeout=work.DEADLINE)
        early = client.post(f"/afterwards/tasks/{id}/retry")
        work.gate.set()
        site.settled(1)
        again = client.post(f"/afterwards/tasks/{id}/retry")
        assert work.held.acquire(timeout=work.DEADLINE)
        ended = client.get(f"/afterwards/tasks/{id}", headers={"Prefer": "wait=20"}).json()
        unknown = client.post("/afterwards/tasks/x/retry")

    assert (early.status_code, early.json()["code"], early.json()["state"]) == (409, "task_open", "running")
    assert again.status_code == 202
    assert (ended["state"], ended["attempt"]) == ("succeeded", 2)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_task")
    assert work.journal == ["x", "x"]


def test_the_applications_dependencies_hold_for_the_status_routes_too(tmp_path: Path):
    """An application that lets nobody in lets nobody in here."""

    def nobody() -> None:
        raise HTTPException(401, "closed")

    app = FastAPI(dependencies=[Depends(nobody)])
    afterwards = Afterwards(app, data=tmp_path)
    try:
        answer = TestClient(app).get("/afterwards/health")
    finally:
        afterwards._system.stop()

    assert (answer.status_code, answer.json()) == (401, {"detail": "closed"})


@pytest.mark.parametrize(
    "wrong", [{"token": " "}, {"admin": lambda: None}, {"admin": Depends(lambda: None), "token": TOKEN}]
)
def test_a_rule_that_would_not_be_what_was_meant_is_refused(tmp_path: Path, wrong: dict[str, Any]):
    """At the start of the program, not at the first request of a stranger."""
    with pytest.raises(ValueError, match="Afterwards"):
        Afterwards(FastAPI(), data=tmp_path, **wrong)
