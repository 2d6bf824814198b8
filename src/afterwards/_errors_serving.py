"""The exceptions of files on their way out. Users find them in `errors.py`, with the others."""

from datetime import UTC, datetime

from afterwards._error import Error


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
