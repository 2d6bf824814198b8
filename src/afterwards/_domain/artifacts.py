"""What of a task's result is files: pure decisions, for the routes and for people."""

from afterwards._domain.files import FileRole
from afterwards._domain.tasks import TaskRow, TaskState
from afterwards._domain.values import single_file

MOST = 1_000  # files that one attempt can make


def single_artifact(row: TaskRow) -> str | None:
    """Return the id of the one file that a task came to; None: its result is to be shown as JSON.

    That is the file it returned, or, when it returned nothing, the one it wrote.
    """
    if row.state is not TaskState.SUCCEEDED or row.result is None:
        return None
    if row.result != "null":
        return single_file(row.result)
    made = [file.id for file in row.files if file.role is FileRole.OUTPUT]
    return made[0] if len(made) == 1 else None
