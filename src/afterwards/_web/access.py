"""Decides who may list tasks, act on them and see tracebacks: nobody, unless they show that they are an admin.

Three ways, in this order: the application's own dependency; a token that was configured; and where neither is, a
token made for this run of the program, which is only in its log and only good for clients on this machine. An id needs
none of this: it carries 128 random bits and opens its own task.
"""

import hashlib
import hmac
import ipaddress
import logging
import multiprocessing
import os
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any

from fastapi import Depends, params
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException
from starlette.requests import Request

from afterwards._engine.clock import boot_id
from afterwards.errors import AdminElsewhere, AdminOnly

log = logging.getLogger("afterwards")

VARIABLE = "AFTERWARDS_TOKEN"
_FORWARDED = ("forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip")
RUN = "AFTERWARDS_RUN"  # set by a launcher: the same in every process of one run
_run = os.urandom(16)  # of this process

_bearer = HTTPBearer(
    scheme_name="AfterwardsToken", description="The admin token of the background tasks.", auto_error=False
)
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


class Access:
    """The admin rule of one installation."""

    def __init__(self, *, admin: Any = None, token: str | None = None, key: Callable[[], bytes]) -> None:
        """Set the rule.

        Args:
            admin: The application's `Depends(...)` or `Security(...)`; it raises or returns False for others.
            token: The admin token. Default: the environment's AFTERWARDS_TOKEN.
            key: Returns the key of the data directory, from which the token of a run is made.

        Raises:
            ValueError: The token is empty, or there are a dependency and a token.
        """
        if token is not None and not token.strip():
            raise ValueError(f"Afterwards(token={token!r}): give a token, such as one of secrets.token_urlsafe()")
        if token is not None and admin is not None:
            raise ValueError(
                "Afterwards(admin=..., token=...): give one of the two, or it would not be clear who decides"
            )
        if admin is not None and not isinstance(admin, params.Depends):
            raise ValueError(f"Afterwards(admin={admin!r}): Depends(...) or Security(...) is wanted here")
        self._admin = admin
        self._token = token or os.environ.get(VARIABLE, "").strip() or None
        self._key = key
        self._told = False

    @property
    def is_configured(self) -> bool:
        """Tell whether somebody has said who is an admin."""
        return self._admin is not None or self._token is not None

    @property
    def has_rule(self) -> bool:
        """Tell whether the application decides itself who is an admin."""
        return self._admin is not None

    @property
    def token(self) -> str:
        """The token that is good now.

        Without a configured one it is made of the data directory's key and of what the workers of one server share, so
        that they agree on it and the next start has another.
        """
        if self._token is not None:
            return self._token
        parent = multiprocessing.parent_process()
        run = _run if parent is None else f"{boot_id()} {parent.pid}".encode()
        if RUN in os.environ:
            run = os.environ[RUN].encode()
        return hashlib.blake2b(b"admin token\n" + run, key=self._key(), digest_size=16).hexdigest()

    def announce(self) -> None:
        """Put the token of this run into the log, where one is needed."""
        if not self.is_configured:
            log.info("admin token for clients on this machine, until this program ends: %s", self.token)

    def guard(self) -> Any:
        """Return the dependency that lets admins through."""
        if self._admin is None:
            return Depends(self.check)

        async def check(verdict: Any = self._admin) -> None:
            if verdict is False:
                raise HTTPException(403, "This is for admins only.")

        return Depends(check)

    async def check(self, request: Request, credentials: Credentials) -> None:
        """Let through who shows the token.

        Raises:
            AdminOnly, AdminElsewhere: For everybody else.
        """
        if self._token is None and not is_local(request):
            raise AdminElsewhere(
                "this is for admins only, and no admin has been configured, so it is only answered to clients on the "
                f"server's own machine that do not come through a proxy. Set {VARIABLE} and send it as `Authorization: "
                "Bearer TOKEN`, or pass Afterwards(app, admin=Depends(...)) your own rule."
            )
        given = "" if credentials is None else credentials.credentials
        if given and hmac.compare_digest(given.encode(), self.token.encode()):
            return
        where = f"It was configured as {VARIABLE} or Afterwards(token=...)."
        if self._token is None:
            self._tell()
            where = "It stands in the log of the program and is another one after each start."
        raise AdminOnly(
            problem="the token is not the admin token" if given else "this is for admins only",
            remedy=f"Send the admin token as `Authorization: Bearer TOKEN`. {where}",
            wrong=bool(given),
        )

    def _tell(self) -> None:
        """Show the token once more, as loud as a program without any logging set up shows anything."""
        if not self._told:
            self._told = True
            log.warning(
                "an admin was asked for and none is configured: on this machine, and until this program ends, the "
                "token is %s. Set %s or pass Afterwards(app, admin=Depends(...)) for more than that.",
                self.token,
                VARIABLE,
            )


def is_local(request: Request) -> bool:
    """Tell whether a request came from this machine without a proxy in between.

    A proxy on the same machine connects from 127.0.0.1 for strangers, so what says that it was forwarded is not local;
    nor is what came over a Unix socket, which is a proxy's way in.
    """
    client = request.client
    if client is None or any(name in _FORWARDED or name.startswith("x-forwarded-") for name in request.headers):
        return False
    return is_loopback(client.host)


@lru_cache(1_000)
def is_loopback(address: str) -> bool:
    """Tell whether an address, not a name, is this machine's own."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback
