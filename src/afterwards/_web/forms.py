"""Parses a multipart/form-data body as it arrives, each file straight into where it will rest.

The parsing is python-multipart's: it leaps from one delimiter to the next, and what lies between is handed to the
file as a view of the block it came in. So this runs wherever blocks come from, and may block where files do.
Limits, names and complaints are starlette's, so that a program sees the form it always saw. One thing is stricter: a
body that ends before its final delimiter was cut off somewhere, and is refused.
"""

import codecs
from collections.abc import Callable
from typing import Any, Protocol

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException

MAX_FILES = 1_000
MAX_FIELDS = 1_000
MAX_FIELD_BYTES = 1 << 20  # of what is not a file; all four as in starlette


class Judge(Protocol):
    """Whoever decides about files while they arrive."""

    def begins(self, file: Any, name: str, declared: str | None) -> None:
        """Take note of a file before its first byte: its name, and the type it declares."""
        ...

    def ended(self, file: Any) -> None:
        """Take note that all of it has come."""
        ...


class Form:
    """One form, from its first block to `finish`, or to `abort`."""

    def __init__(
        self,
        content_type: str | None,
        open_file: Callable[[], Any],
        *,
        judge: "Judge | None" = None,
        max_files: float = MAX_FILES,
        max_fields: float = MAX_FIELDS,
        max_part_size: int = MAX_FIELD_BYTES,
    ) -> None:
        """Begin.

        Args:
            content_type: The request's header.
            open_file: Makes the binary file that the next file of the form is written to.
            judge: Is told of each file, and raises what the form is refused with.
            max_files: Parts with a file name.
            max_fields: Parts without one.
            max_part_size: Bytes of a part without one.

        Raises:
            MultiPartException: The header names no boundary, or one that no parser takes.
        """
        _, options = parse_options_header(content_type)
        self._charset = _charset(options.get(b"charset", b"utf-8"))
        if b"boundary" not in options:
            raise MultiPartException("Missing boundary in multipart.")
        self._open_file = open_file
        self._judge = judge
        self._max_files = max_files
        self._max_fields = max_fields
        self._max_part_size = max_part_size
        self._items: list[tuple[str, str | UploadFile]] = []
        self._files = 0
        self._fields = 0
        self._fed = False
        self._ended = False
        self._headers: list[tuple[bytes, bytes]] = []
        self._header_name = b""
        self._header_value = b""
        self._name = ""
        self._upload: UploadFile | None = None  # the file of this part; a field's value is in `_value`
        self._write: Callable[[Any], object] = bytes
        self._value = bytearray()
        try:
            self._parser = MultipartParser(
                options[b"boundary"],
                {
                    "on_part_begin": self._begin_part,
                    "on_part_data": self._part_data,
                    "on_part_end": self._end_part,
                    "on_header_field": self._add_header_name,
                    "on_header_value": self._add_header_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise MultiPartException(_INVALID) from error

    def feed(self, block: Any) -> None:
        """Take the next bytes, which may be overwritten once this returns.

        Raises:
            MultiPartException: The form is not one, or breaks a limit.
        """
        if self._ended or not len(block):
            return  # an epilogue means nothing
        self._fed = True
        data = block if isinstance(block, bytes | bytearray) else bytes(block)
        try:
            self._parser.write(data)  # type: ignore[arg-type]  # a bytearray has all that the parser uses
        except FormParserError as error:
            raise MultiPartException(_INVALID) from error

    def finish(self) -> FormData:
        """Return what was parsed, each file at its start.

        Raises:
            MultiPartException: The body ended too early.
        """
        if self._fed and not self._ended:
            raise MultiPartException("The multipart body ends before its final boundary.")
        return FormData(self._items)

    # -- what the parser calls

    def _begin_part(self) -> None:
        self._headers = []
        self._upload = None
        self._value = bytearray()

    def _add_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _add_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        self._headers.append((self._header_name.lower(), self._header_value))
        self._header_name = self._header_value = b""

    def _end_headers(self) -> None:
        disposition = None
        for name, value in self._headers:
            if name == b"content-disposition":
                disposition = value
        _, options = parse_options_header(disposition)
        if b"name" not in options:
            raise MultiPartException('The Content-Disposition header field "name" must be provided.')
        self._name = _decode(options[b"name"], self._charset)
        if b"filename" in options:
            self._files += 1
            if self._files > self._max_files:
                raise MultiPartException(f"Too many files. Maximum number of files is {self._max_files}.")
            filename, headers = _decode(options[b"filename"], self._charset), Headers(raw=self._headers)
            file = self._open_file()
            self._write = file.write
            if self._judge is not None:
                self._judge.begins(file, filename, headers.get("content-type"))
            self._upload = UploadFile(file, size=0, filename=filename, headers=headers)
        else:
            self._fields += 1
            if self._fields > self._max_fields:
                raise MultiPartException(f"Too many fields. Maximum number of fields is {self._max_fields}.")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        upload = self._upload
        if upload is not None:
            self._write(data if end - start == len(data) else memoryview(data)[start:end])
            upload.size = (upload.size or 0) + end - start
        elif len(self._value) + end - start > self._max_part_size:
            raise MultiPartException(f"Part exceeded maximum size of {int(self._max_part_size / 1024)}KB.")
        else:
            self._value += data[start:end]

    def _end_part(self) -> None:
        if self._upload is not None:
            if self._judge is not None:
                self._judge.ended(self._upload.file)
            self._upload.file.seek(0)
            self._items.append((self._name, self._upload))
        else:
            self._items.append((self._name, _decode(self._value, self._charset)))

    def _end(self) -> None:
        self._ended = True


_INVALID = "Invalid multipart data."
# Python's ways to write text down that are no charsets: they make characters of escapes that no client means.
_NO_CHARSETS = frozenset({"idna", "punycode", "raw_unicode_escape", "undefined", "unicode_escape", "utf_7"})


def _charset(name: bytes) -> str:
    try:
        found = codecs.lookup(name.decode("latin-1")).name
    except (LookupError, ValueError):  # the latter: a NUL in it
        return "latin-1"
    return "latin-1" if found.replace("-", "_") in _NO_CHARSETS else found


def _decode(value: bytes | bytearray, charset: str) -> str:
    try:
        return value.decode(charset)
    except (UnicodeError, LookupError):
        return value.decode("latin-1")
