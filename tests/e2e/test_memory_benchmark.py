"""`benchmarks/memory.py`: a case, in a process of its own, as its table asks for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "memory.py"


def test_a_case_is_measured_and_planned():
    done = subprocess.run([sys.executable, str(SCRIPT), "uneven, tree"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout.splitlines()[-1])
    assert row["measured"] > row["before"] > 0
    assert 0.5 < row["at_mean"] / row["measured"] < 2.0
