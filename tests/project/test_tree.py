"""The rules of `tools/check_tree.py` find what they are for, and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "check_tree.py"


def check(package: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, TOOL, package], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    "line",
    [
        'SQL = "SELECT id FROM task"',
        'SQL = "select id\\n  from task"',
        'SQL = f"SELECT {column} FROM task"',
        'SQL = f"{select} x"; OTHER = "INSERT OR IGNORE INTO task VALUES (1)"',
        'run("update task set state = 1")',
        'run("  DELETE FROM task")',
        'run("""\\n    CREATE UNIQUE INDEX one ON task (id)""")',
        'run("WITH due AS (SELECT 1) SELECT * FROM due")',
    ],
)
def test_sql_in_python_is_found(tmp_path, line):
    """A statement that is not in a .sql file escapes the tests that explain every query's plan."""
    (tmp_path / "store.py").write_text(f'"""A module."""\n\n{line}\n')

    result = check(tmp_path)

    assert result.returncode == 1
    assert "store.py:3: SQL in Python" in result.stdout


@pytest.mark.parametrize(
    "line",
    [
        'HELP = "Select a file from the list."',
        'HELP = "update the settings"',
        'HELP = f"delete {name} from the disk"',
        'run("PRAGMA data_version")',
        'def read():\n    """SELECT id FROM task, in words."""',
    ],
)
def test_english_and_connection_settings_are_not_sql(tmp_path, line):
    """A rule that cries wolf is switched off."""
    (tmp_path / "store.py").write_text(f'"""A module."""\n\n{line}\n')

    result = check(tmp_path)

    assert (result.returncode, result.stdout) == (0, f"{tmp_path}: files short, SQL in files\n")


def test_a_file_of_more_than_400_lines_is_found(tmp_path):
    """Past 400 lines there are usually two subjects in a file; exactly 400 may stay."""
    (tmp_path / "short.py").write_text("\n" * 400)
    (tmp_path / "long.py").write_text("\n" * 401)

    result = check(tmp_path)

    assert result.returncode == 1
    assert "long.py: 401 lines" in result.stdout
    assert "short.py" not in result.stdout


def test_a_query_file_holds_one_statement(tmp_path):
    """A driver that runs only the first of two statements would drop the second in silence."""
    queries = tmp_path / "queries"
    queries.mkdir()
    (queries / "one.sql").write_text("-- Ends here; or not.\nSELECT ';' FROM task;\n")
    (queries / "two.sql").write_text("SELECT 1;\nSELECT 2;\n")
    (queries / "empty.sql").write_text("-- to be written\n")

    result = check(tmp_path)

    assert result.returncode == 1
    assert "two.sql: 2 statements" in result.stdout
    assert "empty.sql: 0 statements" in result.stdout
    assert "one.sql" not in result.stdout
