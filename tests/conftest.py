"""Gives every test the marker of its folder, by which the Makefile chooses what runs where."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent

# A folder not named here has no marker: its tests run on every Python, with the newest FastAPI.
MARKERS = {
    "claims": pytest.mark.fastapi,
    "cli": pytest.mark.cli,
    "clients": pytest.mark.clients,
    "crash": pytest.mark.crash,
    "http": pytest.mark.fastapi,
    "project": pytest.mark.project,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(HERE).parts[0]
        if folder in MARKERS:
            item.add_marker(MARKERS[folder])
