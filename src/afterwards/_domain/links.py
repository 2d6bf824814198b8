"""Links to one file that end by themselves: `expires`, `signature` and nothing else decides.

The signature covers the file's id, the time and how it is shown, so that none of the three can be changed. It is made
with the key of the data directory, in a field of its own (see `signing.py`): what signs a task opens no file.
"""

import hmac
import math
from collections.abc import Sequence
from datetime import timedelta
from urllib.parse import parse_qsl, urlencode

from afterwards._domain.signing import Signer
from afterwards.errors import LinkExpired, LinkRefused

SKEW = 30  # seconds a link stays good after its time: the clock of the machine that checks may be ahead
LONGEST = 10 * 366 * 86400  # seconds
PARAMETERS = ("expires", "signature", "inline")


def lifetime(expires_in: float | timedelta) -> float:
    """Return the seconds that were asked for.

    Raises:
        ValueError: It is not a time a link can have.
    """
    seconds = expires_in.total_seconds() if isinstance(expires_in, timedelta) else expires_in
    if not 0 < seconds <= LONGEST:
        raise ValueError(f"link(expires_in={expires_in!r}): seconds above 0 and up to ten years, or a timedelta")
    return float(seconds)


def make(signer: Signer, id: str, *, expires_in: float, inline: bool, now: int) -> str:
    """Return the query of a link.

    Args:
        signer: Of the data directory.
        id: Of the file.
        expires_in: Seconds.
        inline: The link lets a browser show the file.
        now: UTC microseconds.
    """
    expires = math.ceil(now / 1_000_000 + expires_in)
    shown = {"inline": "1"} if inline else {}
    return urlencode({"expires": expires, **shown, "signature": signer.link(id, expires, inline=inline)})


def is_link(query: str) -> bool:
    """Tell whether a query claims to be that of a link."""
    return any(name in ("expires", "signature") for name, _ in _pairs(query))


def check(signer: Signer, id: str, query: str, *, now: int) -> None:
    """Let a link pass.

    Raises:
        LinkRefused: It was not made here, or not so.
        LinkExpired: It was good once.
    """
    given: dict[str, str] = {}
    for name, value in _pairs(query):
        if name in PARAMETERS:
            if name in given:
                raise LinkRefused(file=id, problem=f"it has {name} twice")
            given[name] = value
    expires, inline = given.get("expires", ""), given.get("inline")
    if not (expires.isascii() and expires.isdigit() and len(expires) <= 15) or inline not in (None, "1"):
        raise LinkRefused(file=id, problem="it is not complete, or was changed")
    good = signer.link(id, int(expires), inline=inline is not None)
    # The text is signed too: 0123 is not 123.
    if str(int(expires)) != expires or not hmac.compare_digest(given.get("signature", "").encode(), good.encode()):
        raise LinkRefused(file=id, problem="its signature does not fit the rest of it")
    if now / 1_000_000 > int(expires) + SKEW:
        raise LinkExpired(file=id, expires=int(expires))


def _pairs(query: str) -> Sequence[tuple[str, str]]:
    try:
        return parse_qsl(query, keep_blank_values=True, max_num_fields=20)
    except ValueError:  # too many: then it is no link of ours
        return [("signature", "")]
