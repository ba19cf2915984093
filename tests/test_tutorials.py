"""The notebooks of the documentation: their code is of this version, what they show is whole, and they run."""

import ast
import importlib
import json
import re
import sys
from pathlib import Path

import pytest
from docs_toys import exists

DOCS = Path(__file__).parents[1] / "docs"
NOTEBOOKS = sorted((DOCS / "tutorials").glob("*.ipynb"))


def cells(path, kind="code"):
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


def names(tree):
    """Dotted names of the package that a program uses: what it imports, and attributes of ``latticediff``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "latticediff":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute) and re.fullmatch(r"latticediff(\.\w+)+", ast.unparse(node)):
            yield ast.unparse(node)


def test_there_are_three():
    assert [path.stem for path in NOTEBOOKS] == ["first-ensemble", "own-action", "own-loop"]
    assert exists("latticediff.analysis.tau_int") and not exists("latticediff.analysis.tau_exponential")
    assert not exists("latticediff._kernels")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_code_is_of_this_version(path):
    used = {name for cell in cells(path) for name in names(ast.parse("".join(cell["source"])))}
    assert len(used) > 5
    assert not [name for name in used if not exists(name)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_shown_is_whole_and_small(path):
    """Executed from the first cell to the last, with a figure, without messages of one machine."""
    code = cells(path)
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data"}
    assert all(output["name"] == "stdout" for output in outputs if output["output_type"] == "stream")
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert path.stat().st_size < 200_000


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path, monkeypatch):
    pytest.importorskip("nbclient", reason="executes notebooks; the extra docs has it")
    monkeypatch.syspath_prepend(DOCS)
    script = importlib.import_module("execute_tutorials")
    monkeypatch.delitem(sys.modules, "execute_tutorials")
    done = script.tidy(script.execute(path))
    assert any("image/png" in output.get("data", {}) for cell in done.cells for output in cell.get("outputs", ()))
