"""Why a request about an upload is refused: raised and answered by our own routes only.

Programs that use Afterwards never meet these.
"""

from datetime import UTC, datetime

from afterwards.errors.base import Error

_IANA = "https://iana.org/assignments/http-problem-types#"


class UploadError(Error):
    """A request about an upload was refused."""

    code = "upload_error"
    type: str | None = None  # the registered type of the problem, where there is one


class UnknownUpload(UploadError):
    """No upload has this id."""

    code = "unknown_upload"

    def __init__(self, *, upload: str) -> None:
        super().__init__(
            f"no upload has the id {upload!r}. It was never created, or it ended so long ago that it was forgotten. "
            "Create a new one."
        )


class UploadGone(UploadError):
    """The upload is over and has no bytes any more."""

    code = "upload_gone"

    def __init__(self, *, upload: str, state: str, at: int) -> None:
        when = datetime.fromtimestamp(at / 1_000_000, UTC)
        super().__init__(f"upload {upload} was {state} at {when:%Y-%m-%d %H:%M:%S} UTC. Create a new one.")


class WrongOffset(UploadError):
    """The bytes do not begin where the upload goes on."""

    code = "wrong_offset"
    type = f"{_IANA}mismatching-upload-offset"

    def __init__(self, *, upload: str, offset: int, given: int) -> None:
        self.offset = offset
        self.given = given
        super().__init__(
            f"upload {upload} goes on at byte {offset}, and the request says {given}. Nothing of it was stored. "
            "Ask for the offset and send the bytes from there on."
        )


class WrongLength(UploadError):
    """What the client says about the length of the upload does not fit together."""

    code = "inconsistent_length"
    type = f"{_IANA}inconsistent-upload-length"


class UploadEnded(UploadError):
    """The upload is complete and takes nothing more."""

    code = "upload_ended"
    type = f"{_IANA}completed-upload"


class WrongChecksum(UploadError):
    """The bytes do not have the checksum that was sent with them."""

    code = "wrong_checksum"

    def __init__(self, *, algorithm: str, given: str, found: str, offset: int) -> None:
        super().__init__(
            f"the bytes of this request have the {algorithm} checksum {found}, and {given} was sent with them. They "
            f"were damaged on the way and none of them was kept: send them again from byte {offset} on."
        )


class WrongDigest(UploadError):
    """The bytes do not have the digest that was announced."""

    code = "wrong_digest"
    type = f"{_IANA}digest-mismatching-values"

    def __init__(self, *, what: str, algorithm: str, given: str, found: str, remedy: str) -> None:
        super().__init__(f"{what} has the {algorithm} digest {found}, and {given} was announced. {remedy}")


class UnsupportedChecksum(UploadError):
    """The algorithm of a checksum or digest is not known here, or its value cannot be one."""

    code = "unsupported_checksum"
    type = f"{_IANA}digest-unsupported-algorithms"


class BadUploadHeader(UploadError):
    """A header of the request means nothing here."""

    code = "bad_upload_header"


class WrongProtocolVersion(UploadError):
    """The request is for another version of the protocol."""

    code = "unsupported_tus_version"


class WrongMediaType(UploadError):
    """The body of the request is not of the media type that is wanted."""

    code = "wrong_media_type"


class FinalUpload(UploadError):
    """An upload made of others takes no bytes of its own."""

    code = "final_upload"


class UnfinishedUpload(UploadError):
    """Something needs the whole upload, and not all of it has come."""

    code = "unfinished_upload"


class UploadBusy(UploadError):
    """Another request writes the upload and cannot be stopped at the moment."""

    code = "upload_busy"

    def __init__(self, *, upload: str, seconds: float) -> None:
        super().__init__(
            f"another request still writes upload {upload} and could not be stopped in {seconds:g} s, because its disk "
            "does not answer. Ask for the offset again in a moment."
        )


class UploadsElsewhere(UploadError):
    """Uploads may be created by clients on this machine only, because nobody has said who else may."""

    code = "uploads_not_allowed"
