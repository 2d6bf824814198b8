"""SHA-256 of stored files, for those who ask for it: it takes a second a gigabyte or so, and ours is BLAKE3.

The same reading compares the file with the digest in its row: nobody is told the sum of other bytes. A file never
changes, so its sum is worked out once; the newest are remembered. Two threads at most are kept busy, and who asks for
a sum that is being worked out waits for that one.
"""

import asyncio
import hashlib
from collections import OrderedDict
from concurrent.futures import Future

from blake3 import blake3

from afterwards._domain.ranges import Span
from afterwards._files.outgoing import Outgoing
from afterwards._files.pools import Pool

REMEMBERED = 1_000
_BLOCK = 1 << 20


class Sums:
    """Works out sums of one installation's files."""

    def __init__(self) -> None:
        self._threads = Pool("sums", 2)
        self._found: OrderedDict[str, Future[bytes]] = OrderedDict()

    async def sha256(self, file: Outgoing) -> bytes:
        """Return the 32 bytes.

        Raises:
            DamagedFile: The file does not have the bytes that were stored.
        """
        id = file.stored.id
        future = self._found.get(id)
        if future is None or (future.done() and future.exception() is not None):
            future = self._found[id] = self._threads.submit(_sha256, file.another())
        self._found.move_to_end(id)
        while len(self._found) > REMEMBERED:
            self._found.popitem(last=False)
        # Shielded: one who leaves must not take the sum from others who wait for it.
        return await asyncio.shield(asyncio.wrap_future(future))


def _sha256(file: Outgoing) -> bytes:
    sum, own = hashlib.sha256(), blake3()
    size = file.stored.size
    try:
        for start in range(0, size, _BLOCK):
            block = file.read(Span(start, min(size, start + _BLOCK)))
            sum.update(block)
            own.update(block)
    finally:
        file.close()
    if (found := f"blake3:{own.hexdigest()}") != file.stored.digest:
        raise file.damaged(f"its digest is {found} instead of {file.stored.digest}")
    return sum.digest()
