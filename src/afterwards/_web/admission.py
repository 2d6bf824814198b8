"""Decides about the files of a request: before its body where HTTP allows it, and while they arrive where it does not.

An `Admission` is asked by whoever receives bytes, in this order: `check_declared` before the first of them, `opening`
and `ended` around each file, `arrived` for its bytes, `done` behind the last; `release` comes when what was received is
stored, or will not be. What it does not let pass it raises. It knows nothing of forms, sockets or resumable uploads.
"""

from typing import Any

from afterwards._domain.limits import (
    FORM,
    Limits,
    TypeVerdict,
    judge_declared,
    judge_type,
)
from afterwards._engine.ledger import Holding, Ledger
from afterwards._files.sniffing import START, sniff
from afterwards.errors import TypeRefused, UploadTooLarge

STEP = 1 << 20  # bytes that are promised at once where nobody knows how many will come; doubled up to
MOST_STEP = 64 << 20
OVERHEAD = 65_536  # bytes that a form's declared length may be above what there is room for: its files are smaller
MOST_OWNER = 200  # characters
DISK_LOOK = 32 << 20  # bytes between two looks at the disk's reserve


class Admission:
    """One request's way through the limits. Its methods may be called from any thread, one at a time."""

    def __init__(self, limits: Limits, ledger: Ledger, owner: str | None) -> None:
        self.limits = limits
        self.owner = owner
        self._ledger = ledger
        self._holding = Holding(owner)
        self._files = 0
        self._bytes = 0  # of all files
        self._looked = 0
        self._step = STEP

    def check_declared(
        self, length: int | None, *, form: bool, most: int | None = None, kind: str | None = None
    ) -> None:
        """Decide by what a request says of its body, and promise it room. May block for a moment.

        Args:
            length: The declared length, None when there is none.
            form: Whether it is a form, which has more in it than files.
            most: The files that its endpoint can take at most, None when that is open.
            kind: The declared type of a body that is no form.

        Raises:
            UploadTooLarge, TypeRefused, QuotaExceeded, UploadsUnderWay, StorageFull: It is refused.
        """
        limits = self.limits
        if length is not None:
            self._check_length(length, form=form, most=most)
        if not form:
            verdict = judge_declared(limits, kind)
            if verdict is not TypeVerdict.TAKEN:
                raise self._type_refused(verdict, None, kind, None)
        if length is None:
            self._ledger.take(self._holding, 0, 0 if form else 1)
            return
        room = self._ledger.room_for(self._holding) if form and length > 0 else None
        asked = length if room is None or not room < length <= room + OVERHEAD else room
        # A small form may have no file in it at all.
        self._ledger.take(self._holding, asked, 1 if length > (OVERHEAD if form else 0) else 0)

    def _check_length(self, length: int, *, form: bool, most: int | None) -> None:
        limits = self.limits
        if limits.max_request is not None and length > limits.max_request:
            raise UploadTooLarge(
                f"the request has {length:,} bytes, and at most {limits.max_request:,} are taken here (max_request). "
                "Nothing of it was read. Send less."
            )
        if limits.max_file is None:
            return
        files = 1 if not form else min(limits.max_files, limits.max_files if most is None else most)
        if length > files * limits.max_file + (FORM if form else 0):
            each = "a file may have" if not form or files == 1 else f"each of {files:,} files may have"
            raise UploadTooLarge(
                f"the request has {length:,} bytes, and {each} at most {limits.max_file:,} here (max_file). "
                "Nothing of it was read. Send a smaller file."
            )

    def opening(self, name: str | None, declared: str | None) -> "Arriving":
        """Begin a file.

        Args:
            name: What the client calls it.
            declared: What the client says it is.

        Raises:
            UploadTooLarge, QuotaExceeded, UploadsUnderWay, StorageFull: It is one too many.
        """
        if self._files >= self.limits.max_files:
            raise UploadTooLarge(
                f"there are more than {self.limits.max_files:,} files in this request, the most that are taken at once "
                "(max_files). Nothing of it has been kept. Send fewer at a time."
            )
        self._files += 1
        if self._files > self._holding.files:
            self._ledger.take(self._holding, 0, self._files - self._holding.files)
        return Arriving(self, name, declared)

    def grew(self, count: int, size: int, name: str | None) -> None:
        """Take note of bytes that are about to be written to a file, which then has so many."""
        limit = self.limits.max_file
        if limit is not None and size > limit:
            raise UploadTooLarge(
                f"{_the_file(name)} has more than {limit:,} bytes, the most that one may have here (max_file). "
                "Nothing of it has been kept. Send a smaller one."
            )
        holding = self._holding
        self._bytes += count
        if self._bytes > holding.bytes:
            self._promise_more(self._bytes - holding.bytes)
        self._ledger.wrote(holding, count)
        if self._bytes - self._looked >= DISK_LOOK:
            self._looked = self._bytes
            self._ledger.check_disk()

    def _promise_more(self, needed: int) -> None:
        step = max(self._step, needed)
        self._step = min(MOST_STEP, 2 * self._step)
        try:
            self._ledger.take(self._holding, step)
        except Exception:
            if step == needed:
                raise
            self._ledger.take(self._holding, needed)

    def judge(self, start: bytes, name: str | None, declared: str | None) -> None:
        """Decide about a file's type by its first bytes.

        Raises:
            TypeRefused: It is not taken.
        """
        found = sniff(start, name)
        verdict = judge_type(self.limits, found, declared=declared, name=name)
        if verdict is not TypeVerdict.TAKEN:
            raise self._type_refused(verdict, found, declared, name)

    def _type_refused(
        self, verdict: TypeVerdict, found: str | None, declared: str | None, name: str | None
    ) -> TypeRefused:
        what = _the_file(name) if name is not None else "the body"
        is_so = f"is by its bytes {found or 'of no type that is known'}"
        if found is None and name is None:
            is_so = f"is declared as {shown(declared)}"
        if verdict is TypeVerdict.CONTRADICTED:
            return TypeRefused(
                f"{what} {is_so}, which its name or its declared type ({shown(declared)}) contradicts. Nothing of it "
                "has been kept. Send it under its right name and type."
            )
        taken = ", ".join(self.limits.accept or ())
        rest = f": {taken}" if verdict is TypeVerdict.NOT_ACCEPTED else f" all but {', '.join(self.limits.deny)}"
        return TypeRefused(f"{what} {is_so}. Taken here are{rest}. Nothing of it has been kept.")

    def done(self) -> None:
        """All has been received: what was promised beyond that is free for others."""
        self._ledger.keep_only(self._holding, self._bytes)

    def release(self) -> None:
        """What was received is stored, or never will be. Again is no harm."""
        self._ledger.let_go(self._holding)


class Arriving:
    """One file while it arrives."""

    __slots__ = ("_admission", "_declared", "_judged", "_name", "_size", "_start")

    def __init__(self, admission: Admission, name: str | None, declared: str | None) -> None:
        self._admission = admission
        self._name = name
        self._declared = declared
        self._size = 0
        self._start = bytearray()
        self._judged = not admission.limits.asks_for_types

    def arrived(self, data: Any) -> None:
        """Decide about the next bytes, before they are written.

        Raises:
            UploadTooLarge, TypeRefused, QuotaExceeded, UploadsUnderWay, StorageFull: They are too many, or wrong.
        """
        count = len(data)
        self._size += count
        self._admission.grew(count, self._size, self._name)
        if not self._judged:
            self._start += data[: START - len(self._start)]
            if len(self._start) >= START:
                self._judge()

    def ended(self) -> None:
        """Decide about a file so small that it has ended before its type was known."""
        if not self._judged:
            self._judge()

    def _judge(self) -> None:
        self._judged = True
        self._admission.judge(bytes(self._start), self._name, self._declared)


def _the_file(name: str | None) -> str:
    return "the file" if name is None else f"the file {shown(name)}"


def shown(text: str | None) -> str:
    """Return a text of a client as a message can show it: short, in quotes, control and bidi characters escaped."""
    return "(nothing)" if text is None else repr(text if len(text) <= 80 else text[:79] + "…")


def clear_owner(value: object, where: str) -> str | None:
    """Return whose limits a request counts for, as it is stored.

    Raises:
        TypeError: It is no text.
    """
    if value is None:
        return None
    if not isinstance(value, str) or not value or len(value) > MOST_OWNER:
        raise TypeError(
            f"Uploads(owner=...) gave {value!r:.80} for {where}: a text of 1 to {MOST_OWNER} characters is wanted "
            "here, or None for nobody. Make one of it, such as str(user.id)."
        )
    return value
