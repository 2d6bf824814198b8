"""What follows an attempt that did not succeed."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterwards._domain.attempts import SECOND, Backoff, GiveUp, RetryAt, after_failure, after_interruption
from afterwards._domain.tasks import TaskState

NOW = 1_700_000_000_000_000


@given(failures=st.integers(1, 50), max_attempts=st.integers(1, 50), chance=st.floats(0, 1))
def test_a_task_is_tried_exactly_as_often_as_asked(failures, max_attempts, chance):
    """retries=3 means four attempts, not three and not five."""
    decision = after_failure(failures=failures, max_attempts=max_attempts, now=NOW, backoff=Backoff(), chance=chance)

    assert isinstance(decision, RetryAt if failures < max_attempts else GiveUp)


@given(
    failures=st.integers(1, 10_000),
    first=st.floats(0.001, 100),
    longest=st.floats(100, 100_000),
    chance=st.floats(0, 1),
)
def test_the_delay_stays_in_its_band(failures, first, longest, chance):
    """Doubling, capped, and spread over the upper half: never at once, never beyond the cap."""
    delay = Backoff(first=first, longest=longest).delay(failures, chance)

    whole = min(longest, first * 2.0 ** min(failures - 1, 60))
    assert whole / 2 <= delay <= whole


def test_tasks_that_failed_together_do_not_come_back_together():
    """What brought the outside service down would do so again."""
    draw = random.Random(7).random
    times = []
    for _ in range(10_000):
        decision = after_failure(failures=3, max_attempts=9, now=NOW, backoff=Backoff(), chance=draw())
        assert isinstance(decision, RetryAt)
        times.append((decision.at - NOW) * 100 // (4 * SECOND))  # hundredths of the whole delay

    assert min(times) >= 50
    assert max(times) <= 100
    assert max(times.count(slot) for slot in set(times)) < len(times) * 0.05


@pytest.mark.parametrize(
    ("interruptions", "max_interruptions", "follows"),
    [
        (1, 3, TaskState.QUEUED),
        (2, 3, TaskState.QUEUED),
        (3, 3, TaskState.QUARANTINED),
        (4, 3, TaskState.QUARANTINED),
        (1, 1, TaskState.QUARANTINED),
        (1, 0, TaskState.QUARANTINED),
    ],
)
def test_an_interrupted_task_comes_back_until_its_limit(interruptions, max_interruptions, follows):
    """Limit 0 is at most once: the first interruption already ends it."""
    assert after_interruption(interruptions=interruptions, max_interruptions=max_interruptions) is follows
