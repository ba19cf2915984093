"""Executes the notebooks of docs/tutorials and stores what they print and draw.

Call it by ``python docs/execute_tutorials.py [NOTEBOOK ...]``; the extra ``docs`` has what it needs. Messages on
standard error, run times and the versions of the machine are left out of the files: they would differ at every call.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

TUTORIALS = Path(__file__).parent / "tutorials"
SECONDS = 600  #: of one cell


def execute(path: Path) -> Any:
    """The notebook `path` with fresh outputs; an exception in a cell is raised here."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": folder}}
        )
        client.execute()
    return notebook


def tidy(notebook: Any) -> Any:
    """The notebook without what differs from call to call."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            kept: list[Any] = []
            for output in cell.outputs:
                if output.get("name") == "stderr":
                    continue
                if output.output_type == "stream" and kept and kept[-1].output_type == "stream":
                    kept[-1].text += output.text  # what a message had cut in two
                else:
                    kept.append(output)
            cell.outputs = kept
    return notebook


if __name__ == "__main__":
    import nbformat

    for path in map(Path, sys.argv[1:] or sorted(map(str, TUTORIALS.glob("*.ipynb")))):
        nbformat.write(tidy(execute(path)), path)
