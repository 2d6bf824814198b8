"""What can be wrong with a task, its function, its arguments or its outcome."""

from typing import TYPE_CHECKING

from afterwards.errors.base import Error

if TYPE_CHECKING:
    from afterwards._domain.tasks import Failure


class Unstorable(Error):
    """A task was refused at `add_task`, because it could not be brought back equal after a restart."""

    code = "unstorable"


class UnstorableFunction(Unstorable):
    """The function has no name by which a restarted program could find it again."""

    code = "unstorable_function"

    def __init__(self, *, function: str, reason: str, remedy: str) -> None:
        super().__init__(f"{function} cannot be a stored task: {reason}. {remedy}")


class UnstorableArgument(Unstorable):
    """An argument cannot be written down and read back equal in value and type."""

    code = "unstorable_argument"

    def __init__(self, *, function: str, argument: str, type: str, reason: str, remedy: str) -> None:
        self.argument = argument  # with the path inside it: order.items[3]
        what = f"{type}, {reason}" if reason else type
        super().__init__(f"argument {argument} of {function} cannot be stored: it is {what}. {remedy}")


class UnstorableResult(Unstorable):
    """What a task returned cannot be written down and read back equal in value and type."""

    code = "unstorable_result"

    def __init__(self, *, function: str, path: str, type: str, reason: str, remedy: str) -> None:
        self.path = path  # "" for the result itself, else where in it: .items[3]
        where = f"result{path}" if path else "it"
        what = f"{type}, {reason}" if reason else type
        super().__init__(f"the result of {function} cannot be stored: {where} is {what}. {remedy}")


class WrongArguments(Error, TypeError):
    """The arguments given to `add_task` do not fit the function's signature."""

    code = "wrong_arguments"

    def __init__(self, *, function: str, problem: str, parameters: str) -> None:
        super().__init__(f"the call does not fit {function}({parameters}): {problem}")


class UnknownFunction(Error):
    """A stored task names a function that this program does not have."""

    code = "unknown_function"

    def __init__(self, *, function: str, reason: str, remedy: str) -> None:
        super().__init__(f"{function} cannot be found in this program: {reason}. {remedy}")


class DamagedArguments(Error):
    """Stored arguments could not be turned back into values for the function."""

    code = "damaged_arguments"

    def __init__(self, *, what: str, reason: str) -> None:
        super().__init__(
            f"{what} cannot be read back: {reason}. If a class or a signature changed since, "
            "bring the old shape back, or add the task anew."
        )


class ForgedTask(Error):
    """A task's row does not carry the signature of this data directory's key."""

    code = "forged_task"


class LeaseLost(Error):
    """An attempt tried to write after its task had been given to another attempt or taken back."""

    code = "lease_lost"

    def __init__(self, *, task: str, attempt: int, what: str) -> None:
        super().__init__(
            f"attempt {attempt} of task {task} no longer holds its lease, so its {what} was not stored. "
            "The task was given to another attempt, or taken back, while nothing was heard of this one: its process "
            "stood still, or could not write for a while. What it logged before this tells which."
        )


class UnknownTask(Error):
    """No task has this id."""

    code = "unknown_task"

    def __init__(self, *, task: str) -> None:
        super().__init__(
            f"no task has the id {task!r}. It was never stored (its request failed, or is not answered yet), or it "
            "ended so long ago that it was deleted."
        )


class TaskFailed(Error):
    """A task whose result was waited for ended without one."""

    code = "task_failed"

    def __init__(self, *, task: str, name: str, state: str, failure: "Failure | None") -> None:
        self.failure = failure
        self.state = state
        why = "" if failure is None else f" with {failure.type}: {failure.message}"
        super().__init__(f"task {name} {task} ended as {state}{why}. Its document has the details; it can be retried.")


class TaskOpen(Error):
    """The task has not ended, so it has no result yet and cannot be run again."""

    code = "task_open"

    def __init__(self, *, task: str, state: str) -> None:
        self.state = state
        super().__init__(
            f"task {task} is {state}: it has no result yet, and only a task that has ended can be run again. "
            f"Wait for its end: with `afterwards tasks watch {task}`, or over HTTP with `Prefer: wait=20` on its "
            "document or with its event stream."
        )


class TaskNotStored(Error):
    """The task could not be stored and ran unsaved, so what was asked for does not exist."""

    code = "task_not_stored"

    def __init__(self, *, task: str, problem: str) -> None:
        super().__init__(
            f"task {task} could not be stored and ran unsaved, so {problem}. "
            "The program's log says once for each such function why it could not be stored."
        )
