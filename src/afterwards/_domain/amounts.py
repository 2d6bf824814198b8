"""Says how many of something there are."""


def counted(number: int, what: str) -> str:
    """Return a number with what it counts, in English: "1 file", "2,000 files"."""
    plural = {"process": "processes"}.get(what, f"{what}s")
    return f"{number:,} {what if number == 1 else plural}"
