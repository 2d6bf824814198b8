"""What a user installs holds everything the package reads at run time."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_wheel_holds_every_file_of_the_package(tmp_path):
    """A wheel without its .sql files installs well and fails at the first start."""
    package = ROOT / "src" / "afterwards"
    wanted = {
        path.relative_to(package.parent).as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=120,
    )

    [wheel] = tmp_path.glob("afterwards-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
        [metadata] = [name for name in held if name.endswith(".dist-info/entry_points.txt")]
        scripts = archive.read(metadata).decode()
    assert {name for name in held if not name.startswith("afterwards-")} == wanted
    assert "afterwards/py.typed" in held
    assert any(name.endswith(".sql") for name in held)
    assert "afterwards = afterwards.cli:main" in scripts
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in held)
