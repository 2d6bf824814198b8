"""Failed attempts come again where the program asked for it, spread over time, and so often and no more."""

import random
from collections import Counter

import pytest

from afterwards._domain.attempts import SECOND, Backoff, GiveUp, RetryAt, after_failure
from afterwards._domain.options import TaskOptions
from afterwards._domain.tasks import AttemptState, Claim, TaskState
from afterwards._engine.outcomes import GivenBack, Raised, Returned, settlement
from engine import jobs
from engine.rig import Rig

NOW = 1_800_000_000 * SECOND


def claim(**values: int) -> Claim:
    given = {"id": "i", "name": "n", "attempt": 1, "token": "t", "arguments": "", "signature": ""}
    return Claim(**given | {"created_at": NOW, "started_at": NOW} | values)


async def test_a_failing_task_is_run_as_often_as_allowed_each_time_when_it_is_due(hands: Rig):
    """Two retries are three attempts; the delays double, from 5 to 10 s and from 10 to 20 s."""
    row = await hands.run(jobs.fail_thrice)
    for least, most in ((5, 10), (10, 20)):
        assert row.state is TaskState.RETRYING
        wait = (row.run_at - hands.clock.now()) / SECOND
        assert least <= wait <= most
        hands.clock.advance(wait - 0.001)
        await hands.claimer.round()
        assert hands.state(row.id) is TaskState.RETRYING
        hands.clock.advance(0.001)
        await hands.claimer.round()
        row = await hands.settled(row.id)

    assert (row.state, row.failures, row.attempt) == (TaskState.FAILED, 3, 3)
    assert jobs.journal == ["failed"] * 3
    hands.clock.advance(1e6)
    hands.claimer.hint()
    await hands.claimer.round()
    assert jobs.journal == ["failed"] * 3


def test_ten_thousand_that_failed_together_do_not_come_back_together():
    """Every delay lies in the documented band, and no hundredth of a second holds more than a twentieth of them."""
    chance = random.Random(20261121).random
    options = TaskOptions(retries=1, backoff=Backoff(first=10.0))

    delays = []
    for _ in range(10_000):
        what = settlement(claim(max_attempts=2), Raised(ValueError()), options, now=NOW, chance=chance)
        assert (what.state, what.outcome) == (TaskState.RETRYING, AttemptState.FAILED)
        assert what.run_at is not None
        delays.append((what.run_at - NOW) / SECOND)

    assert min(delays) >= 5
    assert max(delays) <= 10
    assert max(Counter(round(delay, 2) for delay in delays).values()) <= 500
    tenths = Counter(int((delay - 5) / 0.5) for delay in delays)
    assert all(800 < tenths[number] < 1200 for number in range(10))


@pytest.mark.parametrize("failures", [1, 2, 12, 13, 64, 1000, 999_999])
def test_no_delay_is_longer_than_the_longest(failures):
    """Doubled a thousand times it must neither overflow nor end before half the limit."""
    backoff = Backoff(first=1.0, longest=3600.0)

    whole = min(3600.0, 2.0 ** min(failures - 1, 60))
    assert backoff.delay(failures, 0.0) == whole / 2
    assert backoff.delay(failures, 1.0) == whole


def test_interruptions_use_up_no_retry():
    """An attempt that died with its process says nothing about the code."""
    what = settlement(
        claim(max_attempts=2, failures=0, interruptions=2, attempt=3), Raised(ValueError()), TaskOptions(), now=NOW
    )

    assert what.state is TaskState.RETRYING


def test_what_a_retry_cannot_help_is_final():
    what = settlement(claim(max_attempts=9), Raised(ValueError(), final=True), TaskOptions(), now=NOW)

    assert (what.state, what.run_at) == (TaskState.FAILED, None)


def test_every_outcome_has_one_settlement():
    fine = settlement(claim(), Returned("1"), TaskOptions(), now=NOW)
    back = settlement(claim(), GivenBack("the end"), TaskOptions(), now=NOW)

    assert (fine.state, fine.result, fine.error) == (TaskState.SUCCEEDED, "1", None)
    assert (back.state, back.outcome) == (TaskState.QUEUED, AttemptState.RELEASED)
    assert after_failure(failures=1, max_attempts=1, now=NOW, backoff=Backoff(), chance=0.5) == GiveUp()
    assert isinstance(after_failure(failures=1, max_attempts=2, now=NOW, backoff=Backoff(), chance=0.5), RetryAt)
