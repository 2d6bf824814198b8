"""The layer rules in pyproject.toml refuse an import that points outward."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the package and its rules, to break."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(tree / "src"), "COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(LINT, cwd=tree, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_the_package_keeps_its_layers(tree):
    """The tree as it stands is what the broken copies below are compared with."""
    result = lint(tree)

    assert result.returncode == 0, result.stdout + result.stderr
    assert " 0 broken" in result.stdout


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("_domain/outward.py", "import afterwards._store"),
        ("_domain/outward.py", "import socket"),
        ("_domain/outward.py", "import starlette.requests"),
        ("_store/outward.py", "import afterwards._engine"),
        ("_store/outward.py", "from fastapi import UploadFile"),
        ("_files/outward.py", "import afterwards._web"),
        ("_files/outward.py", "import apsw"),
        ("_engine/outward.py", "import afterwards._store.sqlite"),
        ("_engine/outward.py", "import afterwards._web"),
        ("_engine/outward.py", "import afterwards.fastapi"),
        ("_engine/outward.py", "import fastapi"),
        ("_web/outward.py", "import afterwards.cli"),
        ("cli.py", "import fastapi"),
        ("testing.py", "from starlette.testclient import TestClient"),
    ],
)
def test_an_import_that_points_outward_is_refused(tree, module, line):
    """One such import is enough to tie the core to a web framework or to one database."""
    with (tree / "src" / "afterwards" / module).open("a") as file:
        file.write(f"\n{line}\n")

    result = lint(tree)

    assert result.returncode == 1, result.stdout + result.stderr
    assert " 1 broken" in result.stdout or " 2 broken" in result.stdout
