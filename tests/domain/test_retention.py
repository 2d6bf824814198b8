"""How long things stay: by kind, from the program or the environment, and read from what people write."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterwards import Keep
from afterwards._domain.files import FILE_GRACE, FileKind
from afterwards._domain.retention import parse_duration, write_duration
from afterwards._domain.tasks import FINAL, TaskState
from afterwards.errors import SettingRefused

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
    assert Keep.of(None, {"AFTERWARDS_KEEP_ARTIFACTS": "3600s"}).artifacts == timedelta(hours=1)
    assert Keep.of(timedelta(days=1), said) == Keep(succeeded=timedelta(days=1), failed=timedelta(days=1))
    assert Keep.of(Keep(uploads=timedelta(1)), said) == Keep(uploads=timedelta(1))
    assert Keep.of(None, {"AFTERWARDS_KEEP": ""}) == Keep()  # set to nothing is not set


def test_what_cannot_be_meant_is_refused_with_the_name_and_the_value():
    with pytest.raises(
        ValueError, match=r"AFTERWARDS_KEEP_UPLOADS='soon': 'soon' is no length of time: write it as 7d"
    ):
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
        ("45s", 45),
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
    assert text.strip()[-1].isalpha(), "it says in which unit"


@pytest.mark.parametrize("text", ["7", " 30 ", "1.5", "1d12"])
def test_a_number_without_a_unit_is_refused(text):
    """Somebody who means days must not lose everything after seconds."""
    with pytest.raises(ValueError, match=r"has no unit|is no length of time"):
        parse_duration(text)
    with pytest.raises(SettingRefused, match=r"the environment's AFTERWARDS_KEEP='7': .* write 7d, 7h or 7min"):
        Keep.of(None, {"AFTERWARDS_KEEP": "7"})


@given(st.timedeltas(min_value=timedelta(milliseconds=1), max_value=timedelta(days=36_500)))
def test_a_length_that_is_shown_can_be_written_like_that(length):
    assert abs(parse_duration(write_duration(length)) - length) < timedelta(milliseconds=1)


def test_what_is_kept_can_be_shown():
    shown = str(Keep(succeeded=timedelta(hours=36), artifacts=timedelta(minutes=90)))

    assert shown == "succeeded 36h, failed 30d, uploads that no task takes 1d, artifacts at least 90min"
