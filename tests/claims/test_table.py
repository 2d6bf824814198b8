"""The table in `docs/claims.md` and the tests beside this file say the same."""

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
TABLE = HERE.parent.parent / "docs" / "claims.md"
ROW = re.compile(r"^\| (C\d\d) \|.*\| ([^|]*) \|$", re.M)


def _tests() -> set[str]:
    modules = [ast.parse(path.read_text()) for path in HERE.glob("test_*.py")]
    functions = [node for module in modules for node in module.body if isinstance(node, ast.FunctionDef)]
    return {function.name for function in functions if function.name.startswith("test_C")}


def test_every_claim_has_a_test_and_every_test_its_claim():
    """A row without a test would be one more claim."""
    named = {id: set(re.findall(r"`(\w+)`", tests)) for id, tests in ROW.findall(TABLE.read_text())}

    assert list(named) == [f"C{number:02}" for number in range(1, 49)]
    for id, tests in named.items():
        assert tests == {test for test in _tests() if id in test.split("_")}, id
        assert tests, id
