"""Names the versions of everything that decides how Afterwards behaves."""

import platform
from importlib.metadata import PackageNotFoundError, version

BESIDE = ("fastapi", "starlette", "uvicorn", "apsw", "pydantic")


def version_line() -> str:
    """Return one line for a bug report."""
    beside = ", ".join(f"{name} {_version(name)}" for name in BESIDE)
    return f"afterwards {_version('afterwards')} (Python {platform.python_version()}, {beside}, {platform.system()})"


def engine_versions() -> tuple[str, str]:
    """Return the versions of Afterwards and of the library that has SQLite in it."""
    return _version("afterwards"), f"apsw {_version('apsw')}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "from a source folder"
