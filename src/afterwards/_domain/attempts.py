"""What follows when an attempt did not succeed: pure decisions, every way out a named value."""

from dataclasses import dataclass

from afterwards._domain.tasks import TaskState

SECOND = 1_000_000  # in microseconds, the unit of every stored time


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long to wait before the next attempt: doubling from `first`, at most `longest`, spread at random.

    The spread ("full jitter" of half the delay) keeps tasks that failed together from coming back together.
    """

    first: float = 1.0  # seconds
    longest: float = 3600.0  # seconds

    def delay(self, failures: int, chance: float) -> float:
        """Return seconds to wait after the given number of failures, with `chance` from 0 to 1 as the jitter."""
        whole = min(self.longest, self.first * 2.0 ** min(failures - 1, 60))
        return whole * (0.5 + 0.5 * chance)


@dataclass(frozen=True, slots=True)
class RetryAt:
    """Run again at this time."""

    at: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The task has failed for good."""


def after_failure(*, failures: int, max_attempts: int, now: int, backoff: Backoff, chance: float) -> RetryAt | GiveUp:
    """Decide what follows when the code raised: retry while attempts remain, else give up.

    `failures` counts this one. Interruptions are counted apart and use up no attempt here.
    """
    if failures >= max_attempts:
        return GiveUp()
    return RetryAt(now + int(backoff.delay(failures, chance) * SECOND))


def after_interruption(*, interruptions: int, max_interruptions: int) -> TaskState:
    """Decide what follows when an attempt's process died: run again at once, or quarantine.

    `interruptions` counts this one. A task that kills its process comes back at most `max_interruptions - 1` times;
    with `max_interruptions=0` (at most once) it never does.
    """
    return TaskState.QUARANTINED if interruptions >= max_interruptions else TaskState.QUEUED
