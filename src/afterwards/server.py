"""The server side of fast uploads, for programs started with uvicorn itself; `afterwards run` uses it anyway.

    uvicorn main:app --http afterwards.server:HttpProtocol

or `uvicorn.run(app, http=HttpProtocol)`. Without it everything works, only slower, and slow clients are not limited.
"""

import logging

try:
    from afterwards._server.protocol import HttpProtocol
except ModuleNotFoundError as missing:
    if missing.name != "httptools":
        raise
    from uvicorn.protocols.http.h11_impl import H11Protocol as HttpProtocol  # type: ignore[assignment]

    logging.getLogger("afterwards").warning(
        "httptools is not installed, so large uploads take the slow way and slow clients are not limited. "
        "Install uvicorn[standard]."
    )

__all__ = ["HttpProtocol"]
