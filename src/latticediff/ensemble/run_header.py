"""``run.json``: what an unfinished run is, beside the file that it will become."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..atomic import sealed_text
from ..digests import check_digest, with_digest
from ..errors import FileError
from ..provenance import Provenance
from ..types import Description, PathLikeStr
from ..untrusted import parse_json, read_text, status
from .files import canonical_json
from .schema import Header

__all__ = ["read_run_header", "run_directory", "write_run_header"]


def run_directory(path: PathLikeStr) -> Path:
    """The directory beside `path` that holds a run while it is unfinished."""
    path = Path(path)
    return path.with_name(path.name + ".run")


def read_run_header(directory: PathLikeStr) -> Description:
    """``run.json`` of a run directory: a dict with `header`, `run_id`, `base`, `target`, `provenance`.

    Raises
    ------
    FileError
        The file is missing, is damaged, or is something else.
    """
    path = Path(directory) / "run.json"
    if status(path) is None:
        if status(Path(directory) / "weights.safetensors") is not None:
            raise FileError(
                f"{directory} is a model folder; expected an ensemble file: draw one with `latticediff sample CARD"
                f" --model {directory} --route ode --out chain.h5`, or look at the model with"
                f" `latticediff info {directory}`"
            )
        raise FileError(f"{directory} is a directory and holds no run (run.json is missing); expected an ensemble file")
    about = parse_json(read_text(path, "the header of a run"), path)
    wanted = {"run_id": str, "header": dict, "target": int, "base": dict | None, "provenance": dict}
    if not isinstance(about, dict) or not all(isinstance(about.get(key, ...), kind) for key, kind in wanted.items()):
        raise FileError(f"{path} is not, or no longer, the header of an unfinished run; expected an ensemble file")
    header, fields = about["header"].keys(), Provenance.__dataclass_fields__.keys()
    if header != Header.__dataclass_fields__.keys() or not {"config_json"} <= about["provenance"].keys() <= fields:
        raise FileError(f"{path} is damaged: its header or provenance is not that of a run")
    if about["base"] is not None and not isinstance(about["base"].get("file"), str):
        raise FileError(f"{path} is damaged: it does not name the file that the run extends")
    return check_digest(about, path, "remove the directory to start again; `repair` saves its configurations")


def write_run_header(directory: PathLikeStr, about: Mapping[str, Any]) -> None:
    """Write ``run.json``, with its digest."""
    sealed_text(Path(directory) / "run.json", canonical_json(with_digest(about)))
