"""How long things stay: by kind, from the program or the environment, and read from what people write."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterwards import Keep
from afterwards._domain.files import FILE_GRACE, FileKind
from afterwards._domain.retention import parse_duration
from afterwards._domain.tasks import FINAL, TaskState

NOW = 1_796_040_000_000_001
HOUR = 3_600_000_000


def test_the_program_goes_before_the_environment_and_that_before_the_defaults():
    """An operator can change what the program left open, and nothing else."""
    said = {"AFTERWARDS_KEEP": "2d", "AFTERWARDS_KEEP_UPLOADS": "90min"}

    assert Keep.of(None, {}) == Keep()
    assert Keep.of(None, said) == Keep(
        succeeded=timedelta(days=2), failed=timedelta(days=2), uploads=timedelta(minutes=90)
    )
    assert Keep.of(None, said | {"AFTERWARDS_KEEP_FAILED": "8w"}).failed == timedelta(weeks=8)
    assert Keep.of(None, {"AFTERWARDS_KEEP_ARTIFACTS": "3600"}).artifacts == timedelta(hours=1)
    assert Keep.of(timedelta(days=1), said) == Keep(succeeded=timedelta(days=1), failed=timedelta(days=1))
    assert Keep.of(Keep(uploads=timedelta(1)), said) == Keep(uploads=timedelta(1))
    assert Keep.of(None, {"AFTERWARDS_KEEP": ""}) == Keep()  # set to nothing is not set


def test_what_cannot_be_meant_is_refused_with_the_name_and_the_value():
    with pytest.raises(ValueError, match=r"AFTERWARDS_KEEP_UPLOADS: 'soon' is no length of time. Write it as 7d"):
        Keep.of(None, {"AFTERWARDS_KEEP_UPLOADS": "soon"})
    with pytest.raises(ValueError, match=r"Keep\(failed=datetime.timedelta\(0\)\): a timedelta longer than nothing"):
        Keep(failed=timedelta(0))
    with pytest.raises(ValueError, match=r"Keep\(uploads=5\)"):
        Keep(uploads=5)  # type: ignore[arg-type]


def test_a_task_stays_by_how_it_ended():
    keep = Keep(succeeded=timedelta(hours=1), failed=timedelta(hours=5))

    until = {state: keep.task_until(state, NOW) for state in FINAL}

    assert until.pop(TaskState.SUCCEEDED) == NOW + HOUR
    assert set(until.values()) == {NOW + 5 * HOUR}
    assert keep.task_until(TaskState.RUNNING, None) is None
    assert keep.ended_before(NOW) == (NOW - HOUR, NOW - 5 * HOUR)


def test_a_file_stays_by_its_kind():
    """What came with a task needs no more than the time until the task is stored."""
    keep = Keep(uploads=timedelta(hours=2), artifacts=timedelta(hours=3))

    assert [keep.file_until(kind, NOW) - NOW for kind in FileKind] == [FILE_GRACE, 2 * HOUR, 3 * HOUR]
    assert Keep().file_until(FileKind.ARTIFACT, NOW) == NOW + FILE_GRACE


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7d", 604_800),
        ("1d12h", 129_600),
        ("90 min", 5_400),
        ("5m", 300),
        ("1.5h", 5_400),
        ("45", 45),
        ("2 Weeks", 1_209_600),
    ],
)
def test_lengths_of_time_as_people_write_them(text, seconds):
    assert parse_duration(text) == timedelta(seconds=seconds)


@given(st.text(max_size=12) | st.sampled_from(["", "d", "-1d", "0", "0d", "7x", "d7", "1e9d", "9" * 40, "7d!"]))
def test_no_text_is_read_as_nothing_or_less(text):
    """A length that is read wrong deletes things."""
    try:
        found = parse_duration(text)
    except ValueError:
        return
    assert found > timedelta(0)
    assert any(character.isdigit() for character in text)
