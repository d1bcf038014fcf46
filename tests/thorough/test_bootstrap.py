"""The first program that `make` runs, whatever Python that is."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).parents[2] / "scripts" / "bootstrap.py"

ON_AN_OLD_PYTHON = """
import runpy, sys
sys.version_info = (3, 9, 18)
sys.modules["servers"] = None  # 3.9 cannot import it
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def test_old_python_gets_an_error_that_names_what_is_needed() -> None:
    text = PROGRAM.read_text(encoding="utf-8")
    ast.parse(text, feature_version=(3, 6))
    assert "from __future__ import annotations" not in text  # a syntax error in 3.6
    ran = subprocess.run(
        [sys.executable, "-c", ON_AN_OLD_PYTHON, str(PROGRAM)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert ran.returncode == 1
    assert ran.stderr.startswith("Python 3.10 or later is needed, ")
