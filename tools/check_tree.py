"""Checks what no linter knows: no long files, SQL only in .sql files, one statement to a query.

Layer rules are not here but in pyproject.toml, for import-linter. Run as
`python tools/check_tree.py src/afterwards`; prints each breach and exits 1 if there is one.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

LONGEST = 400  # lines; past that a file usually has two subjects

# The start of a statement about data. PRAGMA, BEGIN, COMMIT and ROLLBACK are a connection's business
# and may stand in Python. SELECT counts in one case only, so that "Select a file from" is English.
STATEMENT = re.compile(
    r"\s*(?:"
    r"(?:SELECT\b.+\bFROM|select\b.+\bfrom)\b"
    r"|(?i:insert\s+(?:or\s+\w+\s+)?into|replace\s+into|delete\s+from|alter\s+table|update\s+(?:or\s+\w+\s+)?\S+\s+set)\b"
    r"|(?i:(?:create|drop)\s+(?:unique\s+|temp\s+|temporary\s+|virtual\s+)?(?:table|index|trigger|view))\b"
    r"|(?i:with\s+(?:recursive\s+)?\w+\s*(?:\([^)]*\)\s*)?as\s*(?:(?:not\s+)?materialized\s*)?\()"
    r")",
    re.DOTALL,
)

# A comment or a string of a .sql file: a semicolon in there ends nothing.
NOT_CODE = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"", re.DOTALL)


def breaches(root: Path) -> Iterator[str]:
    """Yield one line for each breach in the package at `root`, in the order of its files."""
    for path in sorted(root.rglob("*")):
        if path.suffix not in {".py", ".sql"}:
            continue
        source = path.read_text(encoding="utf-8")
        lines = source.count("\n")
        if lines > LONGEST:
            yield f"{path}: {lines} lines, at most {LONGEST}. Give its second subject a file of its own."
        if path.suffix == ".py":
            yield from _sql_in_python(path, source)
        elif "queries" in path.parts:
            yield from _several_statements(path, source)


def _sql_in_python(path: Path, source: str) -> Iterator[str]:
    tree = ast.parse(source, filename=str(path))
    prose = set()  # docstrings, which may quote a statement, and the parts of strings already looked at
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            prose.add(node.value)
        elif isinstance(node, ast.JoinedStr):
            prose.update(part for part in node.values if isinstance(part, ast.Constant))
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "?" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in prose:
            text = node.value
        else:
            continue
        if STATEMENT.match(text):
            yield f"{path}:{node.lineno}: SQL in Python. Keep it in a .sql file and bind its values."


def _several_statements(path: Path, source: str) -> Iterator[str]:
    statements = [part for part in NOT_CODE.sub("", source).split(";") if part.strip()]
    if len(statements) != 1:
        yield f"{path}: {len(statements)} statements. Keep one in each file."


def main(arguments: list[str]) -> int:
    """Check the package named on the command line; return the exit status."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("usage: python tools/check_tree.py DIRECTORY-OF-A-PACKAGE", file=sys.stderr)
        return 2
    found = list(breaches(Path(arguments[0])))
    print("\n".join(found) if found else f"{arguments[0]}: files short, SQL in files")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
