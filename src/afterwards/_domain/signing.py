"""Signs what a worker will act on, so that a row written by hand runs nothing.

The key lies beside the database, not in it. Whoever can only edit the database can neither name a function that
the program never handed to `add_task` nor change the arguments of one it did.
"""

import hashlib


class Signer:
    """Signs and checks with the key of one data directory."""

    def __init__(self, key: bytes) -> None:
        self._keyed = hashlib.blake2b(key=key, digest_size=16)  # copied for each use: the key is mixed in once

    def task(self, id: str, name: str, arguments: str) -> str:
        """Return the signature of a task, 32 hexadecimal digits."""
        return self._sign(f"task\n{id}\n{name}\n{arguments}")

    def function(self, name: str) -> str:
        """Return the signature of a function's name."""
        return self._sign(f"function\n{name}")

    def link(self, file: str, expires: int, *, inline: bool) -> str:
        """Return the signature of a link to a file that is good until a time, in seconds since 1970."""
        return self._sign(f"link\n{file}\n{expires}\n{'inline' if inline else 'attachment'}")

    def _sign(self, text: str) -> str:
        signing = self._keyed.copy()
        signing.update(text.encode("utf-8", "surrogatepass"))
        return signing.hexdigest()
