"""Who tries again under an Idempotency-Key until there is an answer has one task, whoever was killed meanwhile."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from afterwards._domain.tasks import TaskState
from crash.harness import DEADLINE, Harness
from support.server import Program

KEY = {"Idempotency-Key": '"order 5"'}
CONTENT = b"z" * 400_000


def send(server: Program, path: str, content: bytes | None = None) -> httpx.Response:
    files = None if content is None else {"file": ("a.bin", content)}  # with a boundary of its own each time
    return httpx.post(f"http://127.0.0.1:{server.port}{path}", files=files, headers=KEY, timeout=DEADLINE)


def insist(harness: Harness, server: Program, path: str, content: bytes | None = None) -> httpx.Response:
    """Try until the key is not in use any more."""
    answers: list[httpx.Response] = []

    def is_answered() -> bool:
        answers.append(send(server, path, content))
        assert answers[-1].status_code in (202, 409), answers[-1].text
        assert answers[-1].status_code == 202 or answers[-1].headers["retry-after"] == "1"
        return answers[-1].status_code == 202

    harness.wait(is_answered)
    return answers[-1]


def is_replay(answer: httpx.Response) -> bool:
    return answer.headers.get("idempotent-replayed") == "true"


def the_only_task(harness: Harness) -> str:
    harness.wait(lambda: [row.state for row in harness.data.rows()] == [TaskState.SUCCEEDED], harness.data.states)
    assert len(harness.lines("end")) == 1
    return harness.data.rows()[0].id


@pytest.mark.parametrize(("path", "content"), [("/plain?key=k&pause=0", None), ("/upload?key=k", CONTENT)])
def test_killed_between_commit_and_answer_the_next_try_gets_the_stored_answer(harness: Harness, path, content):
    """The task is there and the answer with it: the client learns what it would have learned."""
    server = harness.start(CRASH_POINT="between commit and answer")
    with pytest.raises(httpx.TransportError):
        send(server, path, content)
    assert server.end() == -9
    [stored] = harness.data.rows()

    again = harness.start()
    answer = send(again, path, content)

    assert answer.status_code == 202
    assert is_replay(answer)
    assert answer.json() == stored.id == the_only_task(harness)
    assert answer.headers["link"] == f'</afterwards/tasks/{stored.id}>; rel="status"'
    assert send(again, path, content and b"other").status_code == (202 if content is None else 422)
    assert len(harness.data.rows()) == 1
    harness.stop(again)


@pytest.mark.parametrize(
    "point", ["before the bytes are synced", "between rename and commit", "just before the commit"]
)
def test_killed_before_the_commit_the_next_try_does_it(harness: Harness, point):
    """The key was held by a process that is gone, and is free as soon as another has seen that."""
    server = harness.start(CRASH_POINT=point)
    with pytest.raises(httpx.TransportError):
        send(server, "/upload?key=k", CONTENT)
    assert server.end() == -9
    assert harness.data.rows() == []

    again = harness.start()
    answer = insist(harness, again, "/upload?key=k", CONTENT)

    assert not is_replay(answer)
    assert answer.json() == the_only_task(harness)
    assert is_replay(send(again, "/upload?key=k", CONTENT))
    harness.stop(again)
    harness.data.close()
    assert harness.integrity() == "ok"


@pytest.mark.parametrize("fate", ["answers", "is killed"])
def test_of_two_servers_one_answers_a_key(harness: Harness, tmp_path: Path, fate):
    """A balancer sends the second try elsewhere. There it waits for the first, and not for one that is dead."""
    one, two = harness.start(), harness.start()
    path = f"/gated?key=k&gate={tmp_path / 'gate'}"
    with ThreadPoolExecutor() as pool:
        first = pool.submit(send, one, path)
        harness.wait(lambda: harness.lines("entered"))
        assert send(two, path).status_code == 409
        if fate == "answers":
            (tmp_path / "gate").touch()
            assert first.result().status_code == 202
            answer = send(two, path)
        else:
            one.kill()
            (tmp_path / "gate").touch()
            answer = insist(harness, two, path)
            assert isinstance(first.exception(), httpx.TransportError)

    assert is_replay(answer) == (fate == "answers")
    assert answer.json() == the_only_task(harness)
    assert len(harness.lines("entered")) == (1 if fate == "answers" else 2)


def test_of_the_workers_of_one_server_one_answers_a_key(harness: Harness, tmp_path: Path):
    """The system hands connections to either. Twenty clients with one key are one client."""
    server = harness.start("--workers=2")
    server.wait_for("Application startup complete", times=2)
    path = f"/gated?key=k&gate={tmp_path / 'gate'}"
    with ThreadPoolExecutor(20) as pool:
        sent = [pool.submit(send, server, path) for _ in range(20)]
        harness.wait(lambda: sum(one.done() for one in sent) == 19)
        (tmp_path / "gate").touch()
        answers = [one.result() for one in sent]
        again = list(pool.map(lambda _: insist(harness, server, path), range(20)))

    assert sorted(answer.status_code for answer in answers) == [202, *[409] * 19]
    assert {answer.json() for answer in again} == {the_only_task(harness)}
    assert len(harness.lines("entered")) == 1
    harness.stop(server)


def test_a_server_that_stood_still_does_not_do_it_a_second_time(harness: Harness, tmp_path: Path):
    """Its lease ended, another answered the key: what it comes to afterwards is thrown away."""
    one = harness.start(CRASH_LEASE="1")
    two = harness.start(CRASH_LEASE="1")
    path = f"/gated?key=k&gate={tmp_path / 'gate'}"
    with ThreadPoolExecutor() as pool:
        first = pool.submit(send, one, path)
        harness.wait(lambda: harness.lines("entered"))
        one.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, one.process.pid, os.WSTOPPED | os.WNOWAIT)
        (tmp_path / "gate").touch()
        answer = insist(harness, two, path)
        one.process.send_signal(signal.SIGCONT)
        late = first.result()

    assert (late.status_code, is_replay(late)) == (409, False)
    assert "another request with the same Idempotency-Key" in late.json()["detail"]
    assert answer.json() == the_only_task(harness)
    assert is_replay(send(one, path))
