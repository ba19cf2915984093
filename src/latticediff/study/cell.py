"""A cell of a study, one theory on one lattice with one sampler, and its result: one JSON file, written whole or not.

The file is called by a digest of all that determines the result, so that a result is found again whatever card asks for
it, and a changed card asks for another one.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..atomic import sealed_text
from ..digests import check_digest, json_digest, with_digest
from ..errors import FileError
from ..untrusted import parse_json, read_text, status

if TYPE_CHECKING:
    from ..types import Description, PathLikeStr

__all__ = ["CELL_VERSION", "Cell", "read_result", "result_path", "write_result"]

CELL_VERSION = 2  #: of what a cell computes and writes; another one is another cell
DIGITS = 20  # of the digest, in the names of files


@dataclass(frozen=True)
class Cell:
    """What is to be measured: everything that determines the numbers, JSON-able."""

    kind: str  #: "chain"; "timing" of all samplers of a theory; "film" of all its learned ones
    sampler: str  #: of a chain; "" of the others
    action: Description = field(hash=False)
    shape: tuple[int, ...]
    seed: int
    n_chains: int
    settings: Description = field(default_factory=dict, hash=False)  #: precision, seconds, budget; or other cells
    model: str = ""  #: fingerprint of the model of a learned sampler
    model_name: str = field(default="", compare=False)  #: where it is; no part of the identity
    label: str = field(default="", compare=False)  #: of the theory, for people
    #: seconds of all training, of data, and of the part of the training that was spent on ancestors of the model
    paid: tuple[float, float | None, float] = field(default=(0.0, 0.0, 0.0), compare=False)

    def identity(self) -> Description:
        """What the digest covers."""
        about = {key: value for key, value in asdict(self).items() if key not in ("model_name", "label", "paid")}
        return {"study_cell": CELL_VERSION, **about, "shape": list(self.shape)}

    @property
    def digest(self) -> str:
        """Hex digest of `identity`, the stem of the file's name."""
        return json_digest(self.identity())[:DIGITS]

    @property
    def title(self) -> str:
        """For people: ``hmc at 8x8, lam = 6.008``."""
        return f"{self.sampler or self.kind} at {self.label or 'x'.join(map(str, self.shape))}"


def result_path(folder: PathLikeStr, cell: Cell) -> Path:
    """Where the result of a cell lies, or will lie."""
    return Path(folder) / "cells" / f"{cell.digest}.json"


def write_result(folder: PathLikeStr, cell: Cell, found: Description) -> Path:
    """Write the result of a cell, whole or not at all; an earlier one, of a cell that failed, is replaced.

    Parameters
    ----------
    folder : path-like
        Of the study.
    cell : Cell
    found : dict
        JSON-able numbers; or ``{"failed": reason}``.

    Returns
    -------
    Path

    Raises
    ------
    FileError
        The disk refuses.
    """
    path = result_path(folder, cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    document = with_digest({"cell": cell.identity(), "title": cell.title, "model_name": cell.model_name, **found})
    sealed_text(path, json.dumps(document, indent=1, allow_nan=False) + "\n")
    return path


def read_result(folder: PathLikeStr, cell: Cell) -> Description | None:
    """The result of a cell; None where there is none yet.

    Raises
    ------
    FileError
        The file is damaged, or is of another cell.
    """
    path = result_path(folder, cell)
    if status(path) is None:
        return None
    document = parse_json(read_text(path, "the result of a cell"), path)
    if not isinstance(document, dict) or document.get("cell") != json.loads(json.dumps(cell.identity())):
        raise FileError(f"{path} is no result of the cell {cell.title}; remove it, and the cell runs again")
    return check_digest(document, path, "remove it, and the cell runs again")
