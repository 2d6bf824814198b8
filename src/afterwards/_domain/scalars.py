"""Writes the values that have no values inside as tagged JSON, and reads them back.

JSON knows five kinds of scalar; each other one is written as an object with a single key that begins
with `$`, such as {"$date": "2026-07-01"}. Each is taken by its exact type, so that a subclass is never
flattened, and comes back equal in value and type: signed zeros, time zones and folds included.
"""

import base64
import datetime as dt
import ipaddress
import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pydantic_core

from afterwards._domain.refusals import Refused, shown

SHOWN_BYTES = 1024  # longer ones are only counted where people read stored values
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1  # beyond these, JSON readers make floats of integers


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    """How one type is written under its tag, read back, and shown to people as plain JSON."""

    type: type
    tag: str
    write: Callable[[Any], object]
    read: Callable[[Any], object]
    plain: Callable[[Any], object] = lambda payload: payload


def is_plain_text(text: str) -> bool:
    """Whether text is Unicode that JSON can carry: without lone surrogates, as in undecodable file names."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def write_text(text: str) -> object:
    """Text as JSON carries it, tagged only where it has lone surrogates."""
    return text if is_plain_text(text) else {"$str": _base64(text.encode("utf-8", "surrogatepass"))}


def read_text(written: object) -> str:
    """What `write_text` wrote."""
    if isinstance(written, str):
        return written
    if isinstance(written, dict) and list(written) == ["$str"]:
        return base64.b64decode(written["$str"], validate=True).decode("utf-8", "surrogatepass")
    raise ValueError(f"text was expected, not {type(written).__name__}")


def plain_text(written: object) -> str:
    """Text for people: what cannot be shown becomes a question mark."""
    return read_text(written).encode("utf-8", "replace").decode()


def write_integer(number: int) -> object:
    """An integer as JSON carries it, tagged where JSON readers would lose digits."""
    return number if _SMALLEST <= number <= _LARGEST else {"$int": hex(number)}


def read_integer(written: object) -> int:
    """What `write_integer` wrote."""
    if isinstance(written, int):
        return written
    if isinstance(written, dict) and list(written) == ["$int"]:
        return int(written["$int"], 16)
    raise ValueError(f"an integer was expected, not {type(written).__name__}")


def plain_integer(written: object) -> object:
    """An integer for people: a large one as text, in decimal up to the size where that takes long."""
    number = read_integer(written)
    if _SMALLEST <= number <= _LARGEST:
        return number
    return str(number) if number.bit_length() <= 4096 else hex(number)


def write_float(number: float) -> object:
    """A float as JSON carries it, tagged where JSON has no such number."""
    return number if math.isfinite(number) else {"$float": str(number)}


def read_float(written: object) -> float:
    """What `write_float` wrote."""
    if isinstance(written, float):
        return written
    if isinstance(written, dict) and list(written) == ["$float"]:
        return float(written["$float"])
    raise ValueError(f"a float was expected, not {type(written).__name__}")


def plain_bytes(payload: str) -> str:
    """Bytes for people: in base64 where that is short, else their number."""
    size = len(payload) * 3 // 4 - payload[-2:].count("=")
    return payload if size <= SHOWN_BYTES else f"<{size} bytes>"


def _base64(data: bytes | bytearray) -> str:
    return base64.b64encode(data).decode("ascii")


def _from_base64(payload: str) -> bytes:
    return base64.b64decode(payload, validate=True)


# Time zones: null for none, "utc", or a kind with its value. The time itself is written with its offset,
# which people see and the reader replaces by the zone.
def _write_zone(zone: dt.tzinfo | None) -> object:
    if zone is None:
        return None
    if zone is dt.UTC:
        return "utc"
    if type(zone) is dt.timezone:
        offset = zone.utcoffset(None)
        name = zone.tzname(None)
        named = name != dt.timezone(offset).tzname(None)
        return {"offset": _write_span(offset), "name": write_text(name) if named else None}
    if type(zone) is ZoneInfo and zone.key is not None:
        return {"zone": zone.key}
    if type(zone) is pydantic_core.TzInfo:  # what FastAPI makes of a time in a request
        return {"pydantic": _write_span(zone.utcoffset(None) or dt.timedelta())}
    raise Refused(
        shown(type(zone)),
        "a time zone that cannot be named",
        "Use zoneinfo.ZoneInfo(name) or datetime.timezone instead.",
    )


def _read_zone(written: Any) -> dt.tzinfo | None:
    match written:
        case None:
            return None
        case "utc":
            return dt.UTC
        case {"zone": str(key)}:
            return ZoneInfo(key)
        case {"offset": offset, "name": None}:
            return dt.timezone(_read_span(offset))
        case {"offset": offset, "name": name}:
            return dt.timezone(_read_span(offset), read_text(name))
        case {"pydantic": offset}:
            return pydantic_core.TzInfo(_read_span(offset).total_seconds())
    raise ValueError("a time zone of unknown kind")


def _plain_zone(written: Any) -> object:
    return plain_text(written["zone"]) if "zone" in written else str(_read_zone(written))


def _write_moment(moment: dt.datetime | dt.time) -> object:
    zone = _write_zone(moment.tzinfo)
    text = moment.isoformat()
    return text if zone in (None, "utc") and not moment.fold else [text, moment.fold, zone]


def _read_datetime(written: Any) -> dt.datetime:
    if isinstance(written, str):
        return dt.datetime.fromisoformat(written)
    text, fold, zone = written
    return dt.datetime.fromisoformat(text).replace(fold=fold, tzinfo=_read_zone(zone))


def _read_time(written: Any) -> dt.time:
    if isinstance(written, str):
        return dt.time.fromisoformat(written)
    text, fold, zone = written
    return dt.time.fromisoformat(text).replace(fold=fold, tzinfo=_read_zone(zone))


def _plain_moment(written: Any) -> object:
    return written if isinstance(written, str) else written[0]


def _write_span(span: dt.timedelta) -> list[int]:
    return [span.days, span.seconds, span.microseconds]


def _read_span(written: list[int]) -> dt.timedelta:
    days, seconds, microseconds = written
    return dt.timedelta(days, seconds, microseconds)


def _plain_span(written: list[int]) -> object:
    return pydantic_core.to_jsonable_python(_read_span(written))  # ISO 8601, as FastAPI answers with it


def _read_complex(written: Any) -> complex:
    real, imaginary = written
    return complex(read_float(real), read_float(imaginary))


def _read_fraction(written: Any) -> Fraction:
    numerator, denominator = written
    return Fraction(read_integer(numerator), read_integer(denominator))


def _read_range(written: Any) -> range:
    start, stop, step = written
    return range(read_integer(start), read_integer(stop), read_integer(step))


def _path(kind: type[PurePath]) -> Scalar:
    return Scalar(
        type=kind,
        tag=f"${kind.__name__}",
        write=lambda path: write_text(str(path)),
        read=lambda written: kind(read_text(written)),
        plain=plain_text,
    )


def _address(kind: type) -> Scalar:
    return Scalar(type=kind, tag=f"${kind.__name__}", write=str, read=kind)


SCALARS = (
    Scalar(type=bytes, tag="$bytes", write=_base64, read=_from_base64, plain=plain_bytes),
    Scalar(
        type=bytearray,
        tag="$bytearray",
        write=_base64,
        read=lambda payload: bytearray(_from_base64(payload)),
        plain=plain_bytes,
    ),
    Scalar(type=dt.datetime, tag="$datetime", write=_write_moment, read=_read_datetime, plain=_plain_moment),
    Scalar(type=dt.date, tag="$date", write=dt.date.isoformat, read=dt.date.fromisoformat),
    Scalar(type=dt.time, tag="$time", write=_write_moment, read=_read_time, plain=_plain_moment),
    Scalar(type=dt.timedelta, tag="$timedelta", write=_write_span, read=_read_span, plain=_plain_span),
    *(
        Scalar(type=kind, tag=f"${kind.__name__}", write=_write_zone, read=_read_zone, plain=_plain_zone)
        for kind in (dt.timezone, ZoneInfo, pydantic_core.TzInfo)
    ),
    Scalar(type=UUID, tag="$uuid", write=str, read=UUID),
    Scalar(type=Decimal, tag="$decimal", write=str, read=Decimal),
    Scalar(
        type=Fraction,
        tag="$fraction",
        write=lambda f: [write_integer(f.numerator), write_integer(f.denominator)],
        read=_read_fraction,
        plain=lambda written: "/".join(str(plain_integer(part)) for part in written),
    ),
    Scalar(
        type=complex,
        tag="$complex",
        write=lambda c: [write_float(c.real), write_float(c.imag)],
        read=_read_complex,
        plain=lambda written: str(_read_complex(written)),
    ),
    Scalar(
        type=range,
        tag="$range",
        write=lambda r: [write_integer(r.start), write_integer(r.stop), write_integer(r.step)],
        read=_read_range,
        plain=lambda written: [plain_integer(part) for part in written],
    ),
    *(_path(kind) for kind in (PurePosixPath, PureWindowsPath, PosixPath, WindowsPath)),
    *(
        _address(kind)
        for kind in (
            ipaddress.IPv4Address,
            ipaddress.IPv6Address,
            ipaddress.IPv4Network,
            ipaddress.IPv6Network,
            ipaddress.IPv4Interface,
            ipaddress.IPv6Interface,
        )
    ),
)
