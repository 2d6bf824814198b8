"""Turns what happened to an attempt into the settlement that is stored."""

import random
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from afterwards._domain.attempts import SECOND, RetryAt, after_failure
from afterwards._domain.options import TaskOptions
from afterwards._domain.tasks import AttemptState, Claim, Failure, Settlement, TaskState
from afterwards._files.workspace import Made
from afterwards.errors import FileHeldBack

LONGEST_PAUSE = 120  # seconds between two looks at whether a file may be given to its task
LONGEST_TRACEBACK = 16_384  # characters; the end is kept, which is where the cause stands


@dataclass(slots=True)
class Returned:
    """The code returned; the value is written as JSON."""

    result: str
    made: Made | None = None  # the files that belong to it, once they are published


@dataclass(frozen=True, slots=True)
class Raised:
    """The code raised, or could not be called."""

    error: BaseException
    final: bool = False  # no retry can help: the row itself is at fault


@dataclass(frozen=True, slots=True)
class GivenBack:
    """The attempt was ended because its process stops."""

    reason: str
    begun: bool = False  # its code may have run


@dataclass(frozen=True, slots=True)
class Postponed:
    """The code could not be called yet, through no fault of its own."""

    reason: str
    type: str = "held back"  # what its document shows of that: a file is


Outcome = Returned | Raised | GivenBack | Postponed


class NotYet(Exception):
    """The arguments of a call cannot be had at the moment."""


def unrunnable(error: Exception) -> Outcome:
    """Decide on an attempt that was refused before its code was called, or for what it returned."""
    if isinstance(error, FileHeldBack) and not error.for_good:
        return Postponed(str(error))
    if isinstance(error, NotYet):
        return Postponed(str(error), "postponed")
    return Raised(error, final=True)


def settlement(
    claim: Claim, outcome: Outcome, options: TaskOptions, *, now: int, chance: Callable[[], float] = random.random
) -> Settlement:
    """Decide what is stored of an attempt and what follows for its task."""
    match outcome:
        case Returned(result):
            return _ended(claim, AttemptState.SUCCEEDED, TaskState.SUCCEEDED, now, result=result)
        case GivenBack(reason, begun):
            if begun and claim.max_interruptions <= 1:  # at most once: nobody knows how far it got
                failure = Failure(type="interrupted", message=reason)
                return _ended(claim, AttemptState.INTERRUPTED, TaskState.QUARANTINED, now, failure=failure)
            failure = Failure(type="released", message=reason)
            return _ended(claim, AttemptState.RELEASED, TaskState.QUEUED, now, failure=failure)
        case Postponed(reason, type):  # again soon, then less often; nothing is counted against the task
            failure = Failure(type=type, message=reason)
            run_at = now + SECOND * min(LONGEST_PAUSE, 2 ** min(claim.attempt, 10))
            return _ended(claim, AttemptState.RELEASED, TaskState.RETRYING, now, failure=failure, run_at=run_at)
        case Raised(error, final):
            failure = describe(error)
            follows = after_failure(
                failures=claim.failures + 1,
                max_attempts=1 if final else claim.max_attempts,
                now=now,
                backoff=options.backoff,
                chance=chance(),
            )
            if isinstance(follows, RetryAt):
                return _ended(claim, AttemptState.FAILED, TaskState.RETRYING, now, failure=failure, run_at=follows.at)
            return _ended(claim, AttemptState.FAILED, TaskState.FAILED, now, failure=failure)


def _ended(
    claim: Claim,
    outcome: AttemptState,
    state: TaskState,
    now: int,
    *,
    result: str | None = None,
    failure: Failure | None = None,
    run_at: int | None = None,
) -> Settlement:
    return Settlement(
        id=claim.id,
        attempt=claim.attempt,
        token=claim.token,
        outcome=outcome,
        state=state,
        at=now,
        run_at=run_at,
        result=result,
        error=None if failure is None else msgspec.json.encode(failure).decode(),
    )


def refused(what: Settlement, why: BaseException) -> Settlement:
    """Turn a success whose result the store will never take into the failure that says so."""
    failure = describe(why)
    message = f"the result could not be stored: {failure.message}"
    error = msgspec.json.encode(Failure(type=failure.type, message=message)).decode()
    return msgspec.structs.replace(what, outcome=AttemptState.FAILED, state=TaskState.FAILED, result=None, error=error)


def describe(error: BaseException) -> Failure:
    """Describe an exception as it is stored and shown, whatever its own `str` does."""
    kind = type(error)
    name = (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )
    message = what_it_says(error)
    try:
        trace = "".join(traceback.format_exception(error))
    except BaseException as worse:  # noqa: BLE001 - the same
        trace = f"(the traceback could not be made: {type(worse).__name__})"
    return Failure(type=name, message=_clean(message)[:2_000], traceback=_clean(trace)[-LONGEST_TRACEBACK:])


def what_it_says(error: BaseException) -> str:
    """Return an exception's text, also when making it raises."""
    try:
        return str(error)
    except BaseException as worse:  # noqa: BLE001 - it must not take its own record along
        return f"(the exception's own text could not be made: {type(worse).__name__})"


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
