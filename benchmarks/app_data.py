"""Where our side keeps its data within the folder of a measurement. Apart, so that the peers need none of our code."""

from pathlib import Path

NAME = "data"


def data_of(folder: Path) -> Path:
    """The data directory given to `Afterwards`."""
    return folder / NAME
