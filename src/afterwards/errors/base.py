"""What every exception of Afterwards is."""


class Error(Exception):
    """The base of every exception raised by Afterwards."""

    code = "error"
    retry_after: int | None = None  # seconds after which the same may succeed, where that is known


class InvalidRequest(Error):
    """A parameter of the request has a value that means nothing here."""

    code = "invalid_request"


class MethodRefused(Error):
    """The address takes other methods than that of the request."""

    code = "method_not_allowed"

    def __init__(self, *, method: str, path: str, allowed: list[str]) -> None:
        self.allowed = allowed
        super().__init__(f"{path} does not take {method[:20]}. Send {', '.join(allowed)}.")
