"""Reads sizes as people write them: 512, "512 MB", "2 GiB"."""

import re

_WRITTEN = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)
_POWERS = "kmgt"
_MOST = 2**62  # bytes: far beyond any disk, and a number the store can hold


def parse_size(value: object) -> int:
    """Return how many bytes a size is. MB are millions of bytes, MiB are 1,048,576 of them.

    Raises:
        ValueError: It is no size.
    """
    if isinstance(value, str) and (written := _WRITTEN.fullmatch(value.strip())) is not None:
        number, power, binary = written.groups()
        if binary and not power:
            raise ValueError(_WANTED)
        factor: int = (1024 if binary else 1000) ** (1 + _POWERS.index(power.lower()) if power else 0)
        size = int(number) * factor if number.isdigit() else int(float(number) * factor)
    elif isinstance(value, int) and not isinstance(value, bool):
        size = value
    else:
        raise ValueError(_WANTED)
    if not 0 <= size <= _MOST:
        raise ValueError(_WANTED)
    return size


_WANTED = 'bytes from 0 as a whole number, or a text such as "512 MB" or "2 GiB"'
