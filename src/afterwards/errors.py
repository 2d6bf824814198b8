"""Every exception a user of Afterwards can meet, and the HTTP status each one becomes.

A message says what happened, to which object, with the values, and then what to do. `code` never
changes, so that nobody has to match on text.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from afterwards._domain.tasks import Failure


class Error(Exception):
    """The base of every exception raised by Afterwards."""

    code = "error"
    retry_after: int | None = None  # seconds after which the same may succeed, where that is known


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


class StorageFull(Error):
    """The disk is full: nothing of what was asked has been stored."""

    code = "storage_full"
    retry_after = 10


class StorageUnsure(Error):
    """The disk failed while committing: whether it was stored will be known after the reopening."""

    code = "storage_unsure"


class MissingFile(Error):
    """A stored file is not on the disk any more."""

    code = "missing_file"

    def __init__(self, *, id: str, name: str | None, path: object) -> None:
        super().__init__(
            f"file {id} ({name or 'without a name'}) is gone: there is no {path}. Somebody removed it, or the data "
            "directory was not copied as a whole. Bring it back from a backup and retry the task."
        )


class DamagedFile(Error):
    """A stored file does not have the bytes that were stored."""

    code = "damaged_file"

    def __init__(self, *, id: str, name: str | None, path: object, problem: str) -> None:
        super().__init__(
            f"file {id} ({name or 'without a name'}) is damaged: {problem} ({path}). Something other than Afterwards "
            "changed it. Bring it back from a backup and retry the task."
        )


class UnsupportedVersion(Error):
    """A library beside Afterwards does not work the way this release of Afterwards needs it to."""

    code = "unsupported_version"

    def __init__(self, *, library: str, found: str, problem: str, remedy: str) -> None:
        super().__init__(f"{library} {found} cannot be used: {problem}. {remedy}")


class StoreRefused(Error):
    """The data directory or its database cannot be used as it is."""

    code = "store_refused"


class StoreBusy(Error):
    """Another program held the database's write lock for too long; nothing has been stored."""

    code = "store_busy"


class Stopped(Error):
    """The engine has been stopped and takes nothing more."""

    code = "stopped"


class BrokenRule(Error):
    """A change would have broken a rule that the database keeps, so it was not stored: a fault in Afterwards."""

    code = "broken_rule"

    def __init__(self, *, command: str, rule: str) -> None:
        super().__init__(
            f"the database refused {command}, because it breaks one of its rules ({rule}); nothing of it was stored. "
            "This is a fault in Afterwards: please report it with this message."
        )


class LeaseLost(Error):
    """An attempt tried to write after its task had been given to another attempt or taken back."""

    code = "lease_lost"

    def __init__(self, *, task: str, attempt: int, what: str) -> None:
        super().__init__(
            f"attempt {attempt} of task {task} no longer holds its lease, so its {what} was not stored. "
            "The task was taken over because this process stood still longer than the lease, or was taken back."
        )


class InvalidKey(Error):
    """The request's Idempotency-Key is not one."""

    code = "invalid_idempotency_key"

    def __init__(self, *, problem: str, longest: int) -> None:
        super().__init__(
            f"the Idempotency-Key of this request {problem}, so nothing was done. Send one of 1 to {longest} printable "
            "ASCII characters, such as a UUID in quotes, and the same one when you send the request again."
        )


class KeyInUse(Error):
    """An earlier request with the same Idempotency-Key is still being answered."""

    code = "idempotency_key_in_use"

    def __init__(self) -> None:
        super().__init__(
            "an earlier request with this Idempotency-Key is still being answered, so this one was not begun. "
            "Send it again in a moment, with the same key: then it gets the answer of the first."
        )


class KeyReused(Error):
    """The Idempotency-Key belongs to another request."""

    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__(
            "this Idempotency-Key was used before for a request with another path, query or body, so nothing was done. "
            "Send a new request with a new key; send the same request again exactly as it was."
        )


class KeyLost(Error):
    """A request took so long that another one with the same Idempotency-Key was begun: nothing of it was stored."""

    code = "idempotency_key_lost"

    def __init__(self) -> None:
        super().__init__(
            "this process stood still for longer than its lease, and another request with the same Idempotency-Key was "
            "begun meanwhile, so nothing of this one was stored. Send it again with the same key to get that answer."
        )


class RoutesTooEarly(Error):
    """Routes with background tasks were made before Afterwards was imported, so their tasks could not be stored."""

    code = "routes_too_early"

    def __init__(self, *, routes: list[str]) -> None:
        super().__init__(
            f"these routes were made before afterwards was imported, so their background tasks would be lost: "
            f"{', '.join(routes)}. Import afterwards before the application's routes are made, or start the unchanged "
            "program with `afterwards run`."
        )


class ProgramRefused(Error):
    """What the command line names cannot be served."""

    code = "program_refused"

    def __init__(self, *, program: str, reason: str, remedy: str) -> None:
        super().__init__(f"{program} cannot be served: {reason}. {remedy}")


class BackupRefused(Error):
    """A backup cannot be made or restored there."""

    code = "backup_refused"


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


class InvalidRequest(Error):
    """A parameter of the request has a value that means nothing here."""

    code = "invalid_request"


class UnknownFile(Error):
    """No file has this id."""

    code = "unknown_file"

    def __init__(self, *, file: str) -> None:
        super().__init__(
            f"no file has the id {file!r}. It was never stored, or it was deleted with the tasks it belonged to when "
            "they had been kept long enough."
        )


class FileHeld(Error):
    """The file is held back until it has been scanned."""

    code = "file_held"

    def __init__(self, *, file: str) -> None:
        super().__init__(f"file {file} is held back until it has been scanned. Ask again in a while.")


class FileInfected(Error):
    """The file was found to be infected, and nobody gets it."""

    code = "file_infected"

    def __init__(self, *, file: str) -> None:
        super().__init__(
            f"a scan found file {file} to be infected, so it is given to nobody. If you think that is wrong, ask the "
            "one who runs this service."
        )


class LinkNeeded(Error):
    """Files are only given to those who have a signed link."""

    code = "link_needed"

    def __init__(self, *, file: str) -> None:
        super().__init__(
            f"the id alone does not open file {file} here: ask for a link to it, which has `expires` and `signature`. "
            "Admins send their token."
        )


class LinkRefused(Error):
    """A signed link to a file was not made here, or was changed."""

    code = "link_refused"

    def __init__(self, *, file: str, problem: str) -> None:
        super().__init__(f"this link does not open file {file}: {problem}. Ask for a new one, and use it as it is.")


class LinkExpired(Error):
    """A signed link to a file was good, but its time is over."""

    code = "link_expired"

    def __init__(self, *, file: str, expires: int) -> None:
        at = datetime.fromtimestamp(min(expires, 253402300799), UTC)
        super().__init__(f"this link to file {file} was good until {at:%Y-%m-%d %H:%M:%S} UTC. Ask for a new one.")


class PreconditionFailed(Error):
    """The file is not the one that the request is about."""

    code = "precondition_failed"

    def __init__(self, *, file: str, tag: str) -> None:
        super().__init__(
            f"file {file} has the ETag {tag}, which the request's If-Match or If-Unmodified-Since rules out. "
            "Ask without that header to get it as it is."
        )


class RangeRefused(Error):
    """None of the bytes asked for can be had, or they were asked for in too many pieces."""

    code = "range_refused"

    def __init__(self, *, size: int, problem: str) -> None:
        self.size = size
        super().__init__(f"{problem}; the file has {size:,} bytes. Ask for other ranges, or without a Range header.")


class TooManyArtifacts(Error):
    """An attempt made more files than one attempt can."""

    code = "too_many_artifacts"

    def __init__(self, *, most: int) -> None:
        super().__init__(
            f"this attempt made more than {most:,} files, which is the most that one can. "
            "Put them into an archive, or divide the work among several tasks."
        )


class AttemptEnded(Error):
    """Code of a task makes a file after the attempt it belongs to has ended."""

    code = "attempt_ended"

    def __init__(self, *, what: str) -> None:
        super().__init__(
            f"{what} cannot be had, because the attempt that this code is part of has ended. "
            "Wait for the task's threads before it returns."
        )


class UnusableArtifact(Error):
    """A path that a task returned cannot become a file of its result."""

    code = "unusable_artifact"

    def __init__(self, *, path: object, problem: str) -> None:
        super().__init__(
            f"{path}, which the task returned, cannot become a file of its result: {problem}. Write the file "
            "below workdir() and return its path, or write it with output(); return str(path) if the path itself is "
            "the result."
        )


class AdminOnly(Error):
    """Only an admin may ask this, and the request does not show that it comes from one."""

    code = "admin_only"

    def __init__(self, *, problem: str, remedy: str, wrong: bool) -> None:
        self.challenge = 'Bearer realm="afterwards"' + (', error="invalid_token"' if wrong else "")
        super().__init__(f"{problem}. {remedy}")


class AdminElsewhere(Error):
    """Only an admin may ask this, and no admin has been configured for clients of other machines."""

    code = "admin_not_configured"


class BodyTooLarge(Error):
    """The body of a request has more bytes than are taken here."""

    code = "body_too_large"

    def __init__(self, *, limit: int, declared: int | None = None) -> None:
        self.limit = limit
        what = "is longer than that" if declared is None else f"has {declared:,} bytes"
        super().__init__(
            f"at most {limit:,} bytes are taken here, and the request {what}. Nothing of it has been kept. "
            "Send less, or ask whoever runs this service to raise the limit."
        )


class BodyTooSlow(Error):
    """The body of a request came too slowly, or stopped coming."""

    code = "body_too_slow"

    def __init__(self, *, received: int, waited: float) -> None:
        self.received = received
        super().__init__(
            f"the request was given up: {received:,} bytes had come after {waited:.0f} s of waiting for them. "
            "Send it again over a faster connection; a resumable upload goes on where it stopped."
        )


class ClientLeft(Error):
    """The client closed its connection before the end of its request's body."""

    code = "client_left"

    def __init__(self, *, received: int) -> None:
        self.received = received  # all of them have been handed over
        super().__init__(
            f"the client left after {received:,} bytes of its request's body, so nobody can be answered. "
            "A resumable upload keeps them and goes on from there; any other request must be sent again."
        )


class TakenOver(Error):
    """Another request asked to go on with the same upload, so this one was ended."""

    code = "taken_over"

    def __init__(self, *, received: int) -> None:
        self.received = received  # all of them have been handed over
        super().__init__(
            f"another request goes on with this upload, so this one was ended after {received:,} bytes. "
            "Ask for the offset before sending more."
        )


class UploadTooLarge(Error):
    """A file, or the number of files, is above what one request may bring."""

    code = "upload_too_large"


class TypeRefused(Error):
    """A file is, by its bytes, of a type that is not taken here, or not what it claims to be."""

    code = "type_refused"


class QuotaExceeded(Error):
    """An upload does not fit beside what is stored for its owner, or altogether."""

    code = "quota_exceeded"


class UploadsUnderWay(Error):
    """An upload would fit, but other uploads that are on their way have been promised the room."""

    code = "uploads_under_way"
    retry_after = 5


class FileHeldBack(Error):
    """A file is not given to anybody, because a scanner has not said that it is clean, or has found something."""

    code = "file_held_back"
    for_good = False  # True: something was found in it


HTTP_STATUS: dict[str, int] = {
    "error": 500,
    "unstorable": 500,
    "unstorable_function": 500,
    "unstorable_argument": 500,
    "unstorable_result": 500,
    "wrong_arguments": 500,
    "unknown_function": 500,
    "damaged_arguments": 500,
    "forged_task": 500,
    "storage_full": 507,
    "storage_unsure": 503,
    "missing_file": 500,
    "damaged_file": 500,
    "unsupported_version": 500,
    "store_refused": 503,
    "store_busy": 503,
    "stopped": 503,
    "broken_rule": 500,
    "lease_lost": 409,
    "invalid_idempotency_key": 400,
    "idempotency_key_in_use": 409,
    "idempotency_key_reused": 422,
    "idempotency_key_lost": 409,
    "routes_too_early": 500,
    "program_refused": 500,
    "backup_refused": 500,
    "unknown_task": 404,
    "task_failed": 409,
    "task_open": 409,
    "task_not_stored": 409,
    "invalid_request": 422,
    "unknown_file": 404,
    "file_held": 409,
    "file_infected": 403,
    "link_needed": 403,
    "link_refused": 403,
    "link_expired": 403,
    "precondition_failed": 412,
    "range_refused": 416,
    "too_many_artifacts": 500,
    "attempt_ended": 500,
    "unusable_artifact": 500,
    "admin_only": 401,
    "admin_not_configured": 403,
    "body_too_large": 413,
    "body_too_slow": 408,
    "client_left": 400,  # nobody hears it
    "taken_over": 409,
    "upload_too_large": 413,
    "type_refused": 415,
    "quota_exceeded": 413,
    "uploads_under_way": 429,
    "file_held_back": 409,
    "upload_error": 400,
    "unknown_upload": 404,
    "upload_gone": 410,
    "wrong_offset": 409,
    "inconsistent_length": 400,
    "upload_ended": 400,
    "wrong_checksum": 460,  # as tus has it
    "wrong_digest": 400,
    "unsupported_checksum": 400,
    "bad_upload_header": 400,
    "unsupported_tus_version": 412,
    "wrong_media_type": 415,
    "final_upload": 403,
    "unfinished_upload": 409,
    "upload_busy": 503,
    "uploads_not_allowed": 403,
}
