"""The variables of the environment: a misspelt one must not leave a limit out in silence."""

import re
from dataclasses import fields
from pathlib import Path

import afterwards
from afterwards._domain.environment import KNOWN, misspelt
from afterwards._web.settings import Uploads

SOURCE = Path(afterwards.__file__).parent


def test_every_variable_that_is_read_is_known():
    """One that is missing here would be called unknown although it works."""
    named = {
        name
        for path in SOURCE.rglob("*.py")
        for name in re.findall(r"AFTERWARDS_[A-Z_]*[A-Z]", path.read_text())
        if path.name != "environment.py"
    }
    unset = Uploads.__dataclass_fields__["max_file"].default
    limits = {f"AFTERWARDS_{field.name.upper()}" for field in fields(Uploads) if field.default is unset}

    assert named | limits == KNOWN


def test_what_is_not_known_is_named_with_what_is_near():
    found = misspelt(["AFTERWARDS_MAXFILE", "AFTERWARDS_KEEP", "afterwards_keep", "AFTERWARDS_ZZZZZZ_9", "HOME"])

    assert found == [
        ("AFTERWARDS_MAXFILE", "AFTERWARDS_MAX_FILE"),
        ("AFTERWARDS_ZZZZZZ_9", None),
        ("afterwards_keep", "AFTERWARDS_KEEP"),
    ]
