"""`afterwards doctor`: each damage alone is found, nothing else is, and a repair mends exactly what it says."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from afterwards._cli.bar import Bar
from afterwards._cli.checkup import Report, check, mend
from afterwards._domain.findings import Level
from afterwards._domain.ids import new_id
from afterwards._files.holding import holding
from afterwards._files.parts import part_path
from afterwards._files.presence import Presence
from afterwards._files.staging import Staging
from afterwards._files.stored import path_of
from cli.processes import command, until
from support.directory import Made, large_file, make_directory, open_upload, packed_file

OLD = 0.0  # the beginning of 1970


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_directory(tmp_path / "data")


def look(made: Made, *, quick: bool = False) -> Report:
    return check(made.root, quick=quick, bar=Bar("data"))


def codes(report: Report) -> list[str]:
    return sorted(finding.code for finding in report.findings)


def picture(root: Path) -> dict[str, tuple[int, bytes]]:
    """Mode and bytes of every file but SQLite's own."""
    return {
        str(path.relative_to(root)): (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in sorted(root.rglob("*"))
        if not path.name.startswith("afterwards.db")
    }


def flip(path: Path, at: int = 5) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    os.truncate(path, 10)


def replace_by_link(path: Path) -> None:
    elsewhere = path.parents[3] / "elsewhere"
    shutil.move(path, elsewhere)
    path.symlink_to(elsewhere)


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def orphan(made: Made) -> Path:
    """A file without a row that has been there for longer than any commit takes."""
    path = path_of(large_file(made.root).id, made.root)
    set_back(path)
    return path


def set_back(path: Path) -> None:
    """Only the time of a write can be set; so the check is told that it is much later instead."""
    os.utime(path, (OLD, OLD))


def move_elsewhere(made: Made) -> None:
    wrong = made.root / "files" / ("00" if not made.files["large"].endswith("00") else "01")
    wrong.mkdir(mode=0o700, exist_ok=True)
    made.path("large").rename(wrong / made.files["large"])


DAMAGES: dict[str, tuple[Callable[[Made], object], list[str]]] = {
    "a bit of a stored file": (lambda made: flip(made.path("large")), ["damaged_file"]),
    "a stored file cut short": (lambda made: truncate(made.path("large")), ["damaged_file"]),
    "a stored file gone": (lambda made: made.path("shared").unlink(), ["missing_file"]),
    "a link in its place": (lambda made: replace_by_link(made.path("large")), ["damaged_file"]),
    "a pipe in its place": (lambda made: replace_by_pipe(made.path("large")), ["damaged_file"]),
    "a file others may read": (lambda made: made.path("large").chmod(0o644), ["open_to_others"]),
    "a folder others may enter": (lambda made: (made.root / "files").chmod(0o755), ["open_to_others"]),
    "the key for all to read": (lambda made: (made.root / "key").chmod(0o604), ["open_to_others"]),
    "the database for the group": (lambda made: (made.root / "afterwards.db").chmod(0o660), ["open_to_others"]),
    "the directory for all": (lambda made: made.root.chmod(0o777), ["open_to_others"]),
    "a key cut short": (lambda made: truncate(made.root / "key"), ["key_damaged"]),
    "no key": (lambda made: (made.root / "key").unlink(), ["key_missing"]),
    "the key of another": (lambda made: flip(made.root / "key"), ["forged_function", "wrong_key"]),
    "a file in the wrong folder": (move_elsewhere, ["misplaced_file"]),
    "somebody's notes": (lambda made: (made.root / "notes.txt").write_text("keep"), ["stray"]),
    "notes among the files": (lambda made: (made.path("large").parent / "notes").write_text("keep"), ["stray"]),
    "a folder among the files": (lambda made: (made.root / "files" / "lost+found").mkdir(), ["stray"]),
    "a link among the workers": (
        lambda made: ((made.root / "workers").mkdir(mode=0o700), (made.root / "workers" / "x").symlink_to("/")),
        ["stray"],
    ),
    "files that are a file": (
        lambda made: (shutil.rmtree(made.root / "files"), (made.root / "files").write_text("")),
        ["missing_file"] * 3 + ["not_ours"],
    ),
    "uses too low": (lambda made: made.edit("UPDATE file SET uses = 0 WHERE uses = 2"), ["wrong_uses"]),
    "uses too high": (lambda made: made.edit("UPDATE file SET uses = 5 WHERE uses = 2"), ["wrong_uses"]),
    "other arguments": (
        lambda made: made.edit("UPDATE task SET arguments = '[[1],{}]' WHERE id = ?", made.tasks["failed"]),
        ["forged_task"],
    ),
    "another function": (
        lambda made: made.edit("UPDATE task SET name = 'os:system' WHERE id = ?", made.tasks["queued"]),
        ["forged_task"],
    ),
    "a function of somebody's": (
        lambda made: made.edit("INSERT INTO function VALUES ('os:system', 'x')"),
        ["forged_function"],
    ),
    "a result that is no JSON": (
        lambda made: made.edit("UPDATE task SET result = '{' WHERE id = ?", made.tasks["succeeded"]),
        ["damaged_row"],
    ),
    "an error that is none": (
        lambda made: made.edit("UPDATE attempt SET error = '7' WHERE state = 'failed'"),
        ["damaged_row"],
    ),
    "a state that is none": (
        lambda made: made.edit("UPDATE task SET state = 'odd' WHERE id = ?", made.tasks["scheduled"]),
        ["damaged_row", "database_damaged"],  # SQLite's own check knows the states too
    ),
    "an attempt too many": (
        lambda made: made.edit(
            "INSERT INTO attempt SELECT seq, 1, 'w', 't', 'failed', 1, 2, NULL FROM task WHERE id = ?",
            made.tasks["queued"],
        ),
        ["wrong_attempts"],
    ),
    "a task that waits for nothing": (
        lambda made: made.edit("UPDATE task SET after = ? WHERE state = 'waiting'", new_id()),
        ["limbo"],
    ),
    "a file that is not tied": (
        lambda made: made.edit(
            "DELETE FROM task_file WHERE task = (SELECT seq FROM task WHERE id = ?)", made.tasks["queued"]
        ),
        ["missing_link"],
    ),
    "a tie to no file": (
        lambda made: (
            made.edit("DELETE FROM file WHERE id = ?", made.files["small"]),
            made.path("large"),
        ),
        ["database_damaged"],
    ),
    "small bytes in a row": (
        lambda made: made.edit("UPDATE file SET content = x'616263646566' , size = 6 WHERE content IS NOT NULL"),
        ["damaged_file"],
    ),
    "a digest that is none": (
        lambda made: made.edit("UPDATE file SET digest = 'md5:0' WHERE id = ?", made.files["upload"]),
        ["damaged_file", "damaged_row"],
    ),
    "an event that is no JSON": (
        lambda made: made.edit("UPDATE event SET data = 'x' WHERE position = 2"),
        ["damaged_event"],
    ),
    "two identities": (lambda made: made.edit("INSERT INTO identity VALUES ('x')"), ["database_damaged"]),
    "a newer schema": (lambda made: made.edit("PRAGMA user_version = 999"), ["database_version"]),
    "another program's database": (lambda made: made.edit("PRAGMA application_id = 1"), ["database_version"]),
    "a worker that died": (
        lambda made: made.edit("INSERT INTO worker VALUES (?, 'h', 1, 'b', 'p', 'f', 1, 1, NULL)", new_id()),
        ["dead_worker"],
    ),
}

MENDED = {"open_to_others", "wrong_uses", "misplaced_file"}
NOTICES = {"stray", "dead_worker", "leftover"}


def test_nothing_is_found_where_nothing_is_wrong_and_nothing_is_changed(made):
    before = picture(made.root)

    report = look(made)

    assert report.findings == []
    assert (report.tasks, report.files) == (6, 4)
    assert report.bytes == 3 * 70_000
    assert picture(made.root) == before


def test_a_damaged_pack_is_found_by_the_files_in_it(made):
    file = packed_file(made.root)
    assert look(made).findings == []
    [pack] = (made.root / "packs").iterdir()

    flip(pack)

    [finding] = look(made).findings
    assert (finding.code, finding.subject) == ("damaged_file", f"file {file.id}")


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_damage_is_found_and_nothing_else(made, damage):
    """And a repair mends what it says it can, and leaves every other byte as it is."""
    inflict, expected = DAMAGES[damage]
    inflict(made)
    before = picture(made.root)

    report = look(made)

    assert codes(report) == expected
    assert picture(made.root) == before, "a check changes nothing"
    problems = [finding for finding in report.findings if finding.level is Level.PROBLEM]
    assert [finding.code for finding in problems] == [one.code for one in report.findings if one.code not in NOTICES]
    assert len(report.left) == len(problems)

    mend(report)

    assert {report.findings[place].code for place in report.done} == MENDED & set(expected)
    again = look(made)
    assert codes(again) == [code for code in expected if code not in MENDED]
    if not MENDED & set(expected):
        assert picture(made.root) == before, "what cannot be mended safely is left alone"


def test_a_folder_that_was_made_by_hand_is_healthy_although_others_may_look_into_it(made):
    """`mkdir` and container volumes make them so; the files in it are closed."""
    made.root.chmod(0o755)

    report = look(made)

    assert [(finding.code, finding.level) for finding in report.findings] == [("open_to_others", Level.NOTICE)]
    assert report.left == []
    mend(report)
    assert look(made).findings == []


def test_a_check_without_digests_reads_no_file(made):
    flip(made.path("large"))

    report = look(made, quick=True)

    assert report.findings == []
    assert report.bytes == 0


def test_a_garbled_database_is_one_finding_and_the_rest_is_still_looked_at(made):
    """Whoever has a broken disk wants to know what of it is left."""
    path = made.root / "afterwards.db"
    path.write_bytes(b"garbage" * 20_000)
    path.chmod(0o644)

    report = look(made)

    assert codes(report) == ["database_damaged", "open_to_others"]
    assert "restore the newest backup" in report.findings[-1].remedy


def test_a_damaged_page_is_found_by_sqlite(made):
    path = made.root / "afterwards.db"
    content = bytearray(path.read_bytes())
    for start in range(4096 * 8, len(content), 4096 * 5):
        content[start + 100 : start + 400] = os.urandom(300)
    path.write_bytes(content)

    report = look(made)

    assert "database_damaged" in codes(report)


def test_an_orphan_is_told_once_it_is_old_and_removed_by_a_repair_alone(made, monkeypatch):
    """A young one waits for its commit: its request may be just before it."""
    path = orphan(made)
    report = look(made)
    assert report.findings == [], "the time of the rename is younger than the grace"
    monkeypatch.setattr(time, "time", lambda real=time.time: real() + 7200)

    report = look(made)
    assert codes(report) == ["orphan"]
    with holding(made.root):
        mend(report)
        assert path.exists(), "a backup may be about to copy it"
    mend(report)

    assert not path.exists()
    assert list(report.done.values()) == ["removed"]
    assert look(made).findings == []


def test_an_orphan_that_has_got_its_row_meanwhile_stays(made, monkeypatch):
    """Between the check and the repair somebody stored it."""
    path = orphan(made)
    monkeypatch.setattr(time, "time", lambda real=time.time: real() + 7200)
    report = look(made)
    made.edit(
        "INSERT INTO file (id, size, headers, digest, created_at) VALUES (?, 70000, '[]', 'blake3:0', 1)", path.name
    )

    mend(report)

    assert path.exists()
    assert report.done == {}


def test_what_a_dead_process_was_receiving_is_told_and_removed_and_a_living_ones_stays(made):
    dead = Staging(made.root, new_id()).open()
    presence = Presence(made.root, new_id())
    alive = Staging(made.root, presence._worker).open()
    try:
        report = look(made)
        assert codes(report) == ["leftover"]
        assert report.left == []

        mend(report)

        assert not dead.path.parent.exists()
        assert alive.path.exists()
    finally:
        alive.close()
        dead.close()
        presence.close()


def test_an_upload_that_is_arriving_is_healthy_as_long_as_its_bytes_are_there(made):
    """It may have more than its row knows of, and never less."""
    upload, empty = open_upload(made.root), open_upload(made.root, offset=0)
    part_path(empty.id, made.root).unlink()
    assert look(made).findings == []

    for damage in (truncate, replace_by_pipe, Path.unlink):
        damage(part_path(upload.id, made.root))
        report = look(made, quick=True)
        assert codes(report) == ["damaged_upload"]
        assert upload.id in report.findings[0].subject
        mend(report)
        assert report.done == {}, "nobody can bring the bytes back"


def test_what_is_left_of_uploads_that_are_over_is_told_and_removed(made, monkeypatch):
    over, arriving = open_upload(made.root), open_upload(made.root)
    made.edit("UPDATE upload SET state = 'expired' WHERE id = ?", over.id)
    unknown = made.root / "uploads" / f"{new_id()}.check"
    unknown.touch(mode=0o600)
    assert look(made).findings == [], "a young one may be on its way"
    monkeypatch.setattr(time, "time", lambda real=time.time: real() + 7200)

    report = look(made)
    assert [(finding.code, finding.size) for finding in report.findings] in (
        [("orphan", 50_010), ("orphan", 0)],
        [("orphan", 0), ("orphan", 50_010)],
    )
    mend(report)

    assert list(report.done.values()) == ["removed"] * 2
    assert [path.name for path in (made.root / "uploads").iterdir()] == [f"{arriving.id}.part"]
    assert look(made).findings == []


def test_a_misplaced_file_with_other_bytes_is_not_put_back(made):
    move_elsewhere(made)
    [wrong] = (made.root / "files").rglob(made.files["large"])
    flip(wrong)

    report = look(made)
    assert codes(report) == ["misplaced_file", "missing_file"]
    mend(report)

    assert report.done == {}
    assert wrong.exists()
    assert not made.path("large").exists()


def test_a_file_deleted_while_it_is_looked_at_is_no_finding(made, monkeypatch):
    """A running program prunes: rows first, bytes afterwards."""
    from afterwards._cli import checkup

    real = checkup.look_at_file

    def prune_first(id, *rest):
        if id == made.files["upload"]:
            made.edit("DELETE FROM file WHERE id = ?", id)
            made.path("upload").unlink()
        return real(id, *rest)

    monkeypatch.setattr(checkup, "look_at_file", prune_first)

    assert look(made).findings == []


def test_a_finding_names_the_tasks_that_need_the_file(made):
    made.path("shared").unlink()

    [finding] = look(made).findings

    assert finding.subject == f"file {made.files['shared']}"
    queued, failed = made.tasks["queued"], made.tasks["failed"]
    assert finding.problem.endswith(f"; needed by {queued} (queued), {failed} (failed)")


def test_the_command_says_it_in_lines_and_in_json_and_by_its_status(made, tmp_path):
    healthy = command(tmp_path, "doctor", "--data", "data")
    assert (healthy.returncode, healthy.stderr) == (0, "")
    assert healthy.stdout == "healthy: 6 tasks, 4 files (205.1 KiB read and compared)\n"
    made.path("large").chmod(0o640)
    made.path("shared").unlink()

    found = command(tmp_path, "doctor", "--data", "data", "--json")
    assert found.returncode == 1
    document = json.loads(found.stdout)
    assert document["healthy"] is False
    assert {(one["code"], one["repairable"], one["repaired"]) for one in document["findings"]} == {
        ("open_to_others", True, None),
        ("missing_file", False, None),
    }

    mended = command(tmp_path, "doctor", "--data", "data", "--repair")
    assert mended.returncode == 1
    lines = mended.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["REPAIRED", "PROBLEM", "1"]
    assert lines[0].endswith("It was closed to others.")
    assert lines[2] == "1 problem, 1 repaired: 6 tasks, 4 files (136.7 KiB read and compared)"
    assert made.path("large").stat().st_mode & 0o777 == 0o600


def test_it_refuses_where_there_is_nothing_and_where_a_restore_was_cut_off(made, tmp_path):
    nothing = command(tmp_path, "doctor", "--data", "elsewhere")
    assert nothing.returncode == 1
    assert nothing.stderr.startswith("afterwards: there is no database of Afterwards in ")
    assert not (tmp_path / "elsewhere").exists()

    (made.root / "restoring").write_text("copying\n")
    unfinished = command(tmp_path, "doctor", "--data", "data")
    assert unfinished.returncode == 1
    assert "a restore into the data directory" in unfinished.stderr


def test_a_running_program_under_load_is_healthy(folder, serve, data):
    """What is being written while it is checked is not taken for damage."""
    server = serve()
    for _ in range(20):
        server.post("/sleep/0")

    reports = [command(folder, "doctor") for _ in range(3)]

    assert [report.returncode for report in reports] == [0, 0, 0], reports[0].stdout
    until(lambda: data.states().count("succeeded") == 20, "all have ended")


def test_after_a_kill_it_is_healthy_and_says_who_died(folder, serve, data):
    server = serve()
    server.post("/sleep/30")
    until(lambda: data.states() == ["running"], "it runs")
    server.kill()

    report = command(folder, "doctor")

    assert report.returncode == 0, report.stdout
    assert "dead_worker" in report.stdout
    assert "The next start of the program takes up what it left." in report.stdout
