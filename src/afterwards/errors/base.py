"""What every exception of Afterwards is."""


class Error(Exception):
    """The base of every exception raised by Afterwards."""

    code = "error"
    retry_after: int | None = None  # seconds after which the same may succeed, where that is known


class InvalidRequest(Error):
    """A parameter of the request has a value that means nothing here."""

    code = "invalid_request"
