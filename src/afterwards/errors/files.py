"""What can be wrong with a stored file, and with asking for one."""

from datetime import UTC, datetime

from afterwards.errors.base import Error


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


class UnknownFile(Error):
    """No file has this id."""

    code = "unknown_file"

    def __init__(self, *, file: str) -> None:
        self.file = file
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


class NoAttempt(Error):
    """Code makes a file while tasks run in its process, and is part of none of them."""

    code = "no_attempt"

    def __init__(self, *, what: str) -> None:
        super().__init__(
            f"{what} was called by code that is part of no task, so what it makes would belong to none and be lost. In "
            "a thread that a task starts itself, run the code within the task's context: "
            "`executor.submit(contextvars.copy_context().run, function, ...)`. In a process that it starts, write to a "
            "path below workdir() that the task hands over. Outside of tasks, where an application runs, use tempfile."
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


class FileHeldBack(Error):
    """A file is not given to anybody, because a scanner has not said that it is clean, or has found something."""

    code = "file_held_back"
    for_good = False  # True: something was found in it
