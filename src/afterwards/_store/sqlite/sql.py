"""The SQL of this store, one statement a file, read once."""

from importlib.resources import files


def _load(folder: str) -> dict[str, str]:
    found = (files(__package__) / folder).iterdir()
    return {file.name.removesuffix(".sql"): file.read_text() for file in found if file.name.endswith(".sql")}


QUERIES = _load("queries")
MIGRATIONS = [text for _, text in sorted(_load("migrations").items())]
