"""Where the package can be imported at all."""

import subprocess
import sys


def test_windows_is_refused_with_a_sentence_before_anything_fails():
    """There is no `fcntl` there, and a ModuleNotFoundError tells nobody what to do."""
    pretend = "import sys; sys.platform = 'win32'; sys.modules['fcntl'] = None; import afterwards"

    ended = subprocess.run([sys.executable, "-c", pretend], capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 1
    assert "ImportError: Afterwards does not run on Windows" in ended.stderr
    assert "WSL 2" in ended.stderr
