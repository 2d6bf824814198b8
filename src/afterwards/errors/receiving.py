"""What can be wrong with what a client sends."""

from afterwards.errors.base import Error


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
