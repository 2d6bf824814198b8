"""What an installation allows of uploads that come in several requests, and to whom.

Creating one takes up room, so it is closed by default: it needs the application's own rule, or the admin token, or a
client on this machine that no browser sent here from another site. The id of an upload carries 128 random bits and
opens it for everything else.
"""

import ipaddress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from fastapi import Depends
from starlette.exceptions import HTTPException
from starlette.requests import Request

from afterwards._domain.uploads import FINISHED_LIFE, UNFINISHED_LIFE
from afterwards._web.access import VARIABLE, Access, Credentials, is_local
from afterwards.errors import BodyTooLarge
from afterwards.errors.uploads import UploadsElsewhere


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What one upload is let in with."""

    owner: str | None = None  # whose limits it counts for
    max_size: int | None = None  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadRules:
    """The rules of one installation."""

    allow: Any = None  # the application's `Depends(...)` that decides who may create: it raises or returns False
    max_size: int | None = None  # bytes of one upload
    unfinished: int = UNFINISHED_LIFE  # microseconds that an unfinished upload stays after its last byte
    finished: int = FINISHED_LIFE  # microseconds that a finished one stays for a task to take it

    async def admit(
        self, request: Request, length: int | None, *, name: str | None, content_type: str | None, owner: str | None
    ) -> Terms:
        """Decide, before a byte of the body is read, whether an upload is taken; asked again before each append.

        Args:
            request: With what it is created or goes on.
            length: Of the whole upload; None: not known yet.
            name: What the client calls it.
            content_type: What the client says it is.
            owner: What was decided when it was created; None then.

        Raises:
            Error: It is not.
        """
        if self.max_size is not None and length is not None and length > self.max_size:
            raise BodyTooLarge(limit=self.max_size, declared=length)
        return Terms(owner=owner, max_size=self.max_size)


def creation_guard(rules: UploadRules, access: Access) -> Any:
    """Return the dependency that lets those through who may create uploads."""
    if rules.allow is None:

        async def local(request: Request, credentials: Credentials) -> None:
            if credentials is None and _is_ours(request):
                return
            if not access.is_configured and credentials is None:
                raise UploadsElsewhere(
                    "creating uploads is allowed to clients on the server's own machine only, because this program has "
                    f"not said who else may. Pass Afterwards(app, uploads=Uploads(allow=Depends(...))), or set "
                    f"{VARIABLE} and send it as `Authorization: Bearer TOKEN`."
                )
            await access.check(request, credentials)

        return Depends(local)

    async def check(verdict: Any = rules.allow) -> None:
        if verdict is False:
            raise HTTPException(403, "You may not create uploads here.")

    return Depends(check)


def _is_ours(request: Request) -> bool:
    """Tell whether a request came from this machine, and not from a page of another site in a browser on it."""
    if not is_local(request) or not _is_loopback(urlsplit(f"//{request.headers.get('host', '')}").hostname):
        return False  # a name that leads here for the moment (DNS rebinding) is not ours
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def _is_loopback(host: str | None) -> bool:
    if host is None or host == "localhost":
        return host is not None
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
