"""What the documentation prints runs as printed."""

import re
from pathlib import Path

from warm import python

DOCS = Path(__file__).parents[1] / "docs"


def test_example_of_an_own_theory_runs_as_printed(tmp_path):
    """And its chains satisfy the Schwinger-Dyson identity, 5 sigma."""
    code = re.search(r"```python\n(.*?)```", (DOCS / "classical.md").read_text(), re.DOTALL)[1]
    (tmp_path / "example.py").write_text(code)
    done = python("example.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = re.search(r"schwinger_dyson +(\d\.\d+)\((\d+)\)", done.stdout)
    value, digits = found[1], len(found[1].split(".")[1])
    assert abs(float(value) - 1) < 5 * int(found[2]) * 10.0**-digits
