"""The seal of an ensemble file: digests of everything in it that decides a number, in front of the data.

Two layers, so that a reader can check just what it reads. ``/seal/parts`` holds one SHA-256 for each small part
(header, provenance, random streams, final state, checksums, names and shapes of the data sets, and the second layer);
all of them are compared when a file is opened. The second layer holds one CRC-32 for each block of about 64 kB of every
data set with many rows, compared when rows of that block are read: a CRC costs less than the read itself.

A SHA-256 is for telling two contents apart, a CRC-32 is for damage: it sees every burst of up to 32 bits, and of other
damage all but one case in 4 * 10^9.
"""

from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

from ..errors import FileError
from ..untrusted import printable
from .block_sums import SEAL, Blocks, BlockSums, damaged_rows, read_blocks
from .files import canonical_json
from .seal_parts import damaged_parts, found_parts, layout_of, sha_of, written_parts
from .stored import Store
from .tables import AnyArray, DataSets

__all__ = [
    "SEAL",
    "BlockSums",
    "Blocks",
    "SealWriter",
    "damaged_parts",
    "damaged_rows",
    "found_parts",
    "is_sealed",
    "read_blocks",
    "require_sealed",
    "seal_problems",
    "written_parts",
]


class SealWriter:
    """Makes the seal of a file while its rows are written.

    Parameters
    ----------
    datasets : dict of str to (dtype, shape)
        Every data set with many rows, by path.
    """

    def __init__(self, datasets: DataSets) -> None:
        self._datasets = datasets
        self._sums = {
            name: BlockSums(np.dtype(dtype).itemsize * int(np.prod(shape[1:], dtype=np.int64)))
            for name, (dtype, shape) in datasets.items()
        }

    def update(self, name: str, rows: AnyArray) -> None:
        """Add the next rows of data set `name`, in the type in which they are stored."""
        self._sums[name].update(rows)

    def reserve(self, file: h5py.File, parts: Mapping[str, Any]) -> None:
        """Write a seal of the final size in front of the data; `parts` as for `write`."""
        group = file.create_group(SEAL)
        for name, sums in self._sums.items():
            n_blocks = -(-self._datasets[name][1][0] // sums.rows)
            group.create_dataset(name, data=np.zeros(n_blocks, "<u4")).attrs["rows"] = sums.rows
        group["parts"] = np.bytes_(self._text(parts))

    def write(self, file: h5py.File, parts: Mapping[str, Any]) -> None:
        """Overwrite what was reserved, when all rows are in the file.

        Parameters
        ----------
        file : h5py.File
        parts : dict
            From `written_parts`, with the final checksums.
        """
        group = file[SEAL]
        for name, sums in self._sums.items():
            group[name][...] = sums.result()
        group["parts"][()] = np.bytes_(self._text(parts))

    def _text(self, parts: Mapping[str, Any]) -> str:
        """The JSON document ``/seal/parts``."""
        blocks = {name: {"rows": sums.rows, "sums": sums.result()} for name, sums in self._sums.items()}
        layout = {name: layout_of(dtype, shape) for name, (dtype, shape) in self._datasets.items()}
        return canonical_json(
            {name: sha_of(part) for name, part in {**parts, "layout": layout, "blocks": blocks}.items()}
        )


def is_sealed(file: Store) -> bool:
    """Whether an ensemble file has a seal: files of schema version 1 have none."""
    return SEAL in file


def require_sealed(file: Store) -> None:
    """Raise `FileError` if a part of a sealed ensemble file is not what was written."""
    if damaged := damaged_parts(file):
        raise FileError(
            f"{file.path} is damaged or was changed by hand: {_listed(damaged)} not what was written;"
            " restore the file or make it again"
        )


def seal_problems(file: Store) -> list[str]:
    """What in a sealed ensemble file is not what was written, rows included; one line each."""
    damaged = damaged_parts(file)
    found = [f"{_listed(damaged)} not what was written"] if damaged else []
    if {"layout", "blocks"} & set(damaged):
        return found  # nothing to compare the rows with
    for name in (f"{group}/{name}" for group in ("configurations", "history") for name in file.group(group).names()):
        found += [f"/{name}: rows {a} to {b} are not what was written" for a, b in damaged_rows(file, name)]
    return found


def _listed(damaged: list[str]) -> str:
    """The names of damaged parts in words, with the verb."""
    names = ", ".join(_WORDS.get(name, printable(name, 60)) for name in damaged)
    return f"{names} {'is' if len(damaged) == 1 else 'are'}"


_WORDS = {
    "schema": "the name and version of the schema",
    "ensemble": "the header (/ensemble)",
    "provenance": "/provenance",
    "checksums": "/checksums",
    "history": "/history",
    "layout": "the list of data sets",
    "blocks": "/seal",
    "state": "the final state (/state)",
    "rng": "/rng",
}
