"""The task document: complete, in words that stay, and without what its reader must not see."""

import json
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from afterwards._domain.documents import TaskDocument, document, moment, schema
from afterwards._domain.retention import Keep
from afterwards._domain.tasks import AttemptRow, AttemptState, Failure, FileRow, TaskRow, TaskState

NOW = 1_796_040_000_000_001  # 2026-11-30T12:00:00.000001Z
FAILURE = json.dumps({"type": "OSError", "message": "no /srv/data/files/ab", "traceback": "File /srv/app.py"})
KEYS = [
    "id", "name", "state", "queue", "priority", "attempt", "max_attempts", "interruptions", "progress", "created_at",
    "run_at", "started_at", "finished_at", "expires_at", "result", "error", "files", "sequence", "durable",
    "waiting_for", "links", "attempts",
]  # fmt: skip


def row(**changes: Any) -> TaskRow:
    values: dict[str, Any] = {
        "id": "t1",
        "name": "app:work",
        "state": TaskState.QUEUED,
        "queue": "default",
        "priority": 0,
        "arguments": '[["secret"],{}]',
        "signature": "signed",
        "attempt": 0,
        "max_attempts": 1,
        "failures": 0,
        "interruptions": 0,
        "created_at": NOW,
        "run_at": NOW,
        "started_at": None,
        "finished_at": None,
        "updated_at": NOW,
        "sequence": None,
        "after": None,
        "worker": "w1",
        "progress": None,
        "result": None,
        "error": None,
    }
    return TaskRow(**values | changes)


def shown(task: TaskRow, **options: Any) -> dict[str, Any]:
    """The document as a client reads it."""
    found: dict[str, Any] = json.loads(msgspec.json.encode(document(task, base="/afterwards", **options)))
    return found


def test_a_document_has_every_key_in_every_state():
    """Clients look keys up; one that is only sometimes there is a bug in somebody's client."""
    for state in TaskState:
        assert list(shown(row(state=state), attempts=[])) == KEYS


def test_arguments_signature_and_worker_are_never_shown():
    """Whoever may read a task's outcome may not read what it was given."""
    text = json.dumps(shown(row(), attempts=[]))

    assert "secret" not in text
    assert "signed" not in text
    assert "w1" not in text


def test_times_are_utc_with_microseconds():
    """Also when they happen to fall on a whole second, so that they sort and parse alike."""
    assert moment(NOW) == "2026-11-30T12:00:00.000001Z"
    assert moment(0) == "1970-01-01T00:00:00.000000Z"


def test_a_finished_task_shows_its_result_progress_and_files():
    """Everything a client waits for is in one document."""
    file = FileRow(id="f1", name="a.png", size=3, content_type="image/png", digest="blake3:00")
    found = shown(
        row(
            state=TaskState.SUCCEEDED,
            result='{"$tuple":[1,{"$date":"2026-01-01"}]}',
            progress='{"done":2,"total":4.5,"unit":"pages","message":null}',
            started_at=NOW + 1,
            finished_at=NOW + 2,
            files=[file],
        )
    )

    assert found["result"] == [1, "2026-01-01"]
    assert found["progress"] == {"done": 2, "total": 4.5, "unit": "pages", "message": None}
    assert found["files"] == [
        {
            "id": "f1",
            "name": "a.png",
            "href": "/afterwards/files/f1",
            "size": 3,
            "type": "image/png",
            "digest": "blake3:00",
            "role": "input",
            "expires_at": None,
        }
    ]
    assert found["started_at"] == "2026-11-30T12:00:00.000002Z"
    assert found["finished_at"] == "2026-11-30T12:00:00.000003Z"
    assert found["links"] == {
        "self": "/afterwards/tasks/t1",
        "events": "/afterwards/tasks/t1/events",
        "result": "/afterwards/tasks/t1/result",
    }


def test_a_traceback_and_a_folder_of_the_server_are_only_for_those_who_may_see_them():
    """A document is read by whoever holds the id."""
    failed = row(state=TaskState.FAILED, error=FAILURE, finished_at=NOW)
    attempt = AttemptRow(number=1, worker="w1", state=AttemptState.FAILED, started_at=NOW, ended_at=NOW, error=FAILURE)

    public = shown(failed, attempts=[attempt], hide="/srv/data")
    private = shown(failed, attempts=[attempt], traceback=True)

    assert public["error"] == {"type": "OSError", "message": "no …/files/ab"}
    assert "/srv" not in json.dumps(public)
    assert private["error"] == json.loads(FAILURE)
    assert private["attempts"] == [
        {"number": 1, "state": "failed", "started_at": moment(NOW), "ended_at": moment(NOW), "error": private["error"]}
    ]


def test_a_damaged_result_is_an_error_of_its_task_alone():
    """One row that cannot be read must not take a whole list with it."""
    found = shown(row(state=TaskState.SUCCEEDED, result='{"$unheard":1}', finished_at=NOW))

    assert found["result"] is None
    assert found["error"]["type"] == "damaged_arguments"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"state": TaskState.WAITING, "after": "t0"}, "the end of task t0"),
        ({"state": TaskState.WAITING}, "its response to be sent"),
        ({"state": TaskState.SCHEDULED}, "its due time, 2026-11-30T12:00:00.000001Z"),
        ({"state": TaskState.RETRYING}, "its due time, 2026-11-30T12:00:00.000001Z"),
        ({"known": False}, "a program that has the function app:work"),
        ({}, "a free place in a program that runs its function"),
        ({"state": TaskState.RUNNING}, None),
        ({"state": TaskState.QUARANTINED}, None),
    ],
)
def test_a_task_that_does_not_run_says_what_it_waits_for(changes: dict[str, Any], reason: str | None):
    """No limbo: whoever looks at a task that stands still sees why."""
    assert shown(row(**changes))["waiting_for"] == reason


def test_the_schema_is_in_one_piece():
    """It goes into other people's OpenAPI documents, where our names must not meet theirs."""
    found = schema(TaskDocument)

    assert "$ref" not in json.dumps(found)
    assert found["properties"]["links"]["properties"]["self"] == {"type": "string"}
    assert set(found["properties"]) == set(KEYS)


def test_a_failure_without_a_traceback_has_no_such_key():
    """Absent, not null: nothing says that there is something to be had."""
    error = msgspec.json.encode(Failure(type="ValueError", message="no")).decode()

    assert shown(row(state=TaskState.FAILED, error=error, finished_at=NOW))["error"] == {
        "type": "ValueError",
        "message": "no",
    }


def test_an_ended_task_says_when_it_and_its_files_go_and_an_open_one_stays():
    """A countdown: whoever wants the result knows how long there is to fetch it."""
    keep = Keep(succeeded=timedelta(hours=1), failed=timedelta(days=2))
    file = FileRow(id="f1", name="a", size=3, content_type=None, digest="blake3:00")
    ended = {"finished_at": NOW, "files": [file]}

    found = {
        state: shown(row(state=state, **({} if state is TaskState.QUEUED else ended)), keep=keep)
        for state in (TaskState.QUEUED, TaskState.SUCCEEDED, TaskState.FAILED)
    }

    assert {state: one["expires_at"] for state, one in found.items()} == {
        TaskState.QUEUED: None,
        TaskState.SUCCEEDED: "2026-11-30T13:00:00.000001Z",
        TaskState.FAILED: "2026-12-02T12:00:00.000001Z",
    }
    assert found[TaskState.FAILED]["files"][0]["expires_at"] == "2026-12-02T12:00:00.000001Z"
    assert shown(row(state=TaskState.SUCCEEDED, finished_at=NOW))["expires_at"] is None
