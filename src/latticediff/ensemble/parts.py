"""The parts of an ensemble: one finished file, or the files of an unfinished run, each of which follows the last."""

from dataclasses import replace
from pathlib import Path

from ..errors import FileError
from ..types import Description
from .checkpoint import Checkpoint, load_checkpoints
from .rows import Part
from .run_header import read_run_header
from .schema import Header, check_schema, schema_version
from .seal import is_sealed, require_sealed
from .stored import Store
from .structure import check_structure

__all__ = ["PartsInOrder", "begun_run", "files_of_run", "run_id_of"]


def begun_run(run: Path) -> tuple[Description, Checkpoint]:
    """Header and last checkpoint of an unfinished run; raises `FileError` if one of them is missing or damaged."""
    about = read_run_header(run)
    checkpoints = load_checkpoints(run, about["run_id"])
    if not checkpoints:
        raise FileError(f"{run} holds no whole checkpoint; remove it and start again")
    return about, checkpoints[0]


def files_of_run(run: Path, about: Description, checkpoint: Checkpoint) -> list[Path]:
    """The files that hold an unfinished run, in order; raises `FileError` if there is none yet."""
    base = [run.with_name(about["base"]["file"])] if about["base"] else []
    files = base + [run / f"{index:06d}.h5" for index in range(len(checkpoint.segments))]
    if not files:
        raise FileError(f"{run} holds no configurations yet; the run has just begun")
    return files


def run_id_of(file: Store) -> str:
    """Identity of the run that wrote the file, or ""."""
    return file.attribute_text("run_id", "provenance") if file.has_attribute("run_id", "provenance") else ""


class PartsInOrder:
    """Looks at one part after the other.

    Parameters
    ----------
    about : dict, optional
        From `begun_run`, for the parts of an unfinished run.
    check : bool
        Refuse parts that are not as they were written, or that do not follow one another.

    Attributes
    ----------
    header : Header
        Of the first part, once it was measured.
    """

    header: Header

    def __init__(self, about: Description | None, check: bool) -> None:
        self._about, self._check = about, check
        #: last update of the last part with a history, which the next part has to follow; None: no part had one
        self._next_update: int | None = None

    def measure(self, file: Store) -> Part:
        """Check the next part of the ensemble, and count its rows; the header of the first one is kept."""
        check_schema(file, file.path)
        n_cfg, n_updates = check_structure(file)
        sealed = is_sealed(file)
        if not sealed and schema_version(file, file.path) > 1:
            raise FileError(f"{file.path} is damaged: its seal is missing (/seal); restore the file or make it again")
        if sealed and self._check:
            require_sealed(file)
        header = Header.read(file)
        self.header = getattr(self, "header", header)
        if self._check and self._about is not None:
            self._require_next(file, header, self._about)
        if n_updates:  # a part without history does not tell where it ends
            self._next_update = header.first_update + n_updates
        return Part(file.path, n_cfg, n_updates, sealed)

    def _require_next(self, file: Store, header: Header, about: Description) -> None:
        """Raise `FileError` if a part of an unfinished run is of another run, or does not follow the one before."""
        if replace(header, first_update=self.header.first_update) != self.header:
            raise FileError(f"{file.path} has another header than the other parts of the run; restore it")
        if self._next_update is not None and header.first_update != self._next_update:
            raise FileError(f"{file.path} does not follow the part before it; restore it")
        base = about["base"]
        if not (base and Path(file.path).name == base["file"]) and run_id_of(file) != about["run_id"]:
            raise FileError(f"{file.path} is of another run; restore it")
