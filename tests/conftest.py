"""Gives every test the markers of its folder, by which the Makefile chooses what runs where."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent

# A folder not named here has no marker: its tests run on every Python, with the newest FastAPI.
MARKERS = {
    "claims": ("claims", "fastapi"),
    "cli": ("cli",),
    "clients": ("clients",),
    "crash": ("crash",),
    "http": ("fastapi",),
    "project": ("project",),
    "server": ("server",),
    "uploads": ("uploads",),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for marker in MARKERS.get(item.path.relative_to(HERE).parts[0], ()):
            item.add_marker(marker)
        if item.path.name.startswith("test_scenarios_"):
            item.add_marker("scenarios")
