"""Stored files in arguments and results: only their ids are written, and each place gets the view it asks for."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from fastapi import UploadFile

from afterwards._domain.arguments import decode, encode
from afterwards._domain.artifacts import single_artifact
from afterwards._domain.files import FileRole, FileValue
from afterwards._domain.tasks import FileRow, TaskRow, TaskState
from afterwards._domain.values import decode_result, encode_result, single_file, to_plain
from afterwards.errors import DamagedArguments, UnstorableResult

FILE = FileValue(id="f1", name="a", size=1, content_type=None, type=None, digest="")
OTHER = FileValue(id="f2", name="a", size=1, content_type=None, type=None, digest="")


def ids(value: object, *_: Any) -> str | None:
    if isinstance(value, UploadFile):
        return "upload"
    return value.id if isinstance(value, FileValue) else None


@dataclass
class Pages:
    first: FileValue
    rest: tuple[FileValue, ...]


def test_files_are_equal_by_their_ids():
    same = FileValue(id="f1", name="b", size=2, content_type=None, type=None, digest="")
    assert same == FILE
    assert hash(FILE) == hash(same)
    assert FILE != OTHER
    assert FILE != "f1"


@pytest.mark.parametrize(
    "value", [FILE, [FILE, OTHER, FILE], {"a": FILE}, {1: (FILE,)}, Pages(FILE, (OTHER,)), {FILE: {FILE, OTHER}}]
)
def test_files_come_back_in_their_places(value: Any):
    text = encode_result(value, "f", ids)

    assert decode_result(text, {"f1": FILE, "f2": OTHER}.__getitem__) == value


def by_file(file: FileValue) -> None: ...
def by_upload(file: UploadFile) -> None: ...
def by_uploads(file: list[UploadFile] | None) -> None: ...
def by_files(*file: dict[str, FileValue]) -> None: ...
def by_either(file: FileValue | UploadFile) -> None: ...
def by_nothing(file) -> None: ...  # type: ignore[no-untyped-def]
def by_unknown(file: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("function", "of_file", "of_upload"),
    [
        (by_file, "value", "value"),
        (by_files, "value", "value"),
        (by_upload, "upload", "upload"),
        (by_uploads, "upload", "upload"),
        (by_either, "value", "upload"),
        (by_nothing, "value", "upload"),
        (by_unknown, "value", "upload"),
    ],
)
def test_a_parameter_gets_the_view_that_its_annotation_names(function: Any, of_file: str, of_upload: str):
    upload = UploadFile(None, filename="a")  # type: ignore[arg-type]

    for given, wanted in ((FILE, of_file), (upload, of_upload)):
        text = encode(function, "f", ([given],), {}, ids)
        [[got]], _ = decode(function, "f", text, lambda id: "upload", lambda id: "value")
        assert got == wanted


@pytest.mark.parametrize("value", [{"$stored": "f1"}, [{"$stored": "f1"}], '{"$stored":"f1"}'])
def test_data_that_looks_like_a_file_is_none(value: Any):
    """A client's JSON must not open anybody's file."""
    text = encode_result(value, "f", ids)

    assert single_file(text) is None
    assert decode_result(text) == value
    assert to_plain(text, {"f1": {"id": "f1", "name": "a secret"}}) == value


def test_only_a_result_that_is_a_file_is_a_single_file():
    assert single_file(encode_result(FILE, "f", ids)) == "f1"
    for value in ([FILE], {"a": FILE}, None, "f1", {}):
        assert single_file(encode_result(value, "f", ids)) is None


def test_people_see_the_document_of_a_file_in_its_place():
    text = encode_result({"a": [FILE], 1: OTHER}, "f", ids)

    assert to_plain(text, {"f1": {"id": "f1", "name": "x"}}) == {"a": [{"id": "f1", "name": "x"}], "1": {"file": "f2"}}


def test_paths_stay_paths_where_nobody_keeps_them():
    for path in (Path("/a/b"), PurePosixPath("c")):
        assert decode_result(encode_result(path, "f")) == path
        assert decode_result(encode_result(path, "f", ids)) == path


def test_a_file_is_refused_where_nobody_keeps_files_and_missed_where_nobody_has_it():
    with pytest.raises(UnstorableResult, match="a stored file"):
        encode_result([FILE], "f")
    with pytest.raises(DamagedArguments, match="f1"):
        decode_result(encode_result(FILE, "f", ids))


def row(result: str | None, *roles: FileRole, state: TaskState = TaskState.SUCCEEDED) -> TaskRow:
    files = [
        FileRow(id=f"f{number}", name=None, size=1, content_type=None, digest="", role=role)
        for number, role in enumerate(roles, 1)
    ]
    given = dict.fromkeys(TaskRow.__struct_fields__)
    return TaskRow(**given | {"state": state, "result": result, "files": files})


@pytest.mark.parametrize(
    ("found", "id"),
    [
        (row('{"$stored":"f1"}', FileRole.OUTPUT, FileRole.OUTPUT), "f1"),
        (row('{"$stored":"f1"}', FileRole.INPUT), "f1"),
        (row("null", FileRole.INPUT, FileRole.OUTPUT), "f2"),
        (row("null", FileRole.OUTPUT, FileRole.OUTPUT), None),
        (row("null", FileRole.INPUT), None),
        (row("7", FileRole.OUTPUT), None),
        (row('[{"$stored":"f1"}]', FileRole.OUTPUT), None),
        (row(None, state=TaskState.FAILED), None),
        (row(None, FileRole.INPUT, state=TaskState.RUNNING), None),
    ],
)
def test_the_one_file_that_a_task_came_to(found: TaskRow, id: str | None):
    """Asked for its result, a task with one answers with the bytes."""
    assert single_artifact(found) == id
