"""The seal of an ensemble file: digests of everything in it that decides a number, in front of the data.

Two layers, so that a reader can check just what it reads. ``/seal/parts`` holds one SHA-256 for each small part
(header, provenance, random streams, final state, checksums, names and shapes of the data sets, and the second layer);
all of them are compared when a file is opened. The second layer holds one CRC-32 for each block of about 64 kB of every
data set with many rows, compared when rows of that block are read: a CRC costs less than the read itself.

A SHA-256 is for telling two contents apart, a CRC-32 is for damage: it sees every burst of up to 32 bits, and of other
damage all but one case in 4 * 10^9.
"""

import hashlib
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..errors import FileError
from ..markov import ChainState
from ..provenance import Provenance
from ..types import Description, Extents, PathLikeStr
from ..untrusted import printable
from .files import canonical_json
from .schema import HEADER_ATTRIBUTES, PROVENANCE_ATTRIBUTES, PROVENANCE_TEXTS, SCHEMA, SCHEMA_VERSION, Header
from .stored import Store
from .tables import AnyArray, Columns, DataSets

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

BLOCK_BYTES = 64 << 10
READ_BYTES = 4 << 20
SEAL = "seal"
STATE_ARRAYS = ("phi", "action", "log_q", "latent")


def _little(rows: ArrayLike) -> AnyArray:
    """`rows` in little-endian byte order and one piece."""
    rows = np.asarray(rows)
    return np.ascontiguousarray(rows, rows.dtype.newbyteorder("<"))


def _bytes(rows: ArrayLike) -> memoryview | bytes:
    """The bytes of `rows`, little-endian."""
    rows = _little(rows)
    return rows.data.cast("B") if rows.size else b""


def _sha(value: object) -> str:
    """SHA-256 of nested dicts of JSON-able values and arrays, in hex; of an array, type, shape and content enter."""

    def plain(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: plain(entry) for key, entry in item.items()}
        if isinstance(item, np.ndarray) and item.ndim:
            return [str(item.dtype.newbyteorder("=")), list(item.shape), hashlib.sha256(_bytes(item)).hexdigest()]
        if isinstance(item, bytes):
            return item.decode(errors="replace")
        return item.item() if isinstance(item, np.generic | np.ndarray) else item

    return hashlib.sha256(canonical_json(plain(value)).encode()).hexdigest()


def _layout(dtype: DTypeLike, shape: Extents) -> list[Any]:
    """Type and shape of a data set, JSON-able."""
    return [str(np.dtype(dtype).newbyteorder("=")), [int(extent) for extent in shape]]


class BlockSums:
    """CRC-32 of consecutive blocks of rows; the sums do not depend on how many rows each `update` brings."""

    def __init__(self, row_bytes: int) -> None:
        self.rows = max(1, BLOCK_BYTES // max(1, row_bytes))  #: rows of a block; the last one may have fewer
        self._row_bytes, self._open, self._crc = row_bytes, 0, 0
        self._sums: list[int] = []

    def update(self, rows: AnyArray) -> None:
        """Add the next `rows`."""
        view, start = _bytes(rows), 0
        while start < len(rows):
            n = min(self.rows - self._open, len(rows) - start)
            self._crc = zlib.crc32(view[start * self._row_bytes : (start + n) * self._row_bytes], self._crc)
            self._open, start = self._open + n, start + n
            if self._open == self.rows:
                self._sums.append(self._crc)
                self._open, self._crc = 0, 0

    def result(self) -> NDArray[np.uint32]:
        """One sum for each block, shape (n_blocks,), uint32."""
        return np.array(self._sums + [self._crc] * (self._open > 0), "<u4")


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
        layout = {name: _layout(dtype, shape) for name, (dtype, shape) in self._datasets.items()}
        return canonical_json(
            {name: _sha(part) for name, part in {**parts, "layout": layout, "blocks": blocks}.items()}
        )


def is_sealed(file: Store) -> bool:
    """Whether an ensemble file has a seal: files of schema version 1 have none."""
    return SEAL in file


class Blocks:
    """Stored CRC-32 of the blocks of one data set; `check` compares rows with them.

    Parameters
    ----------
    name : str
        Path of the data set.
    path : path
        Path of the file, for messages.
    rows : int
        Rows of a block; the last one may have fewer.
    sums : ndarray, shape (n_blocks,), uint32
    """

    def __init__(self, name: str, path: PathLikeStr, rows: int, sums: NDArray[np.uint32]) -> None:
        self.name, self.path, self.rows, self.sums = name, path, rows, sums

    def around(self, start: int, stop: int, n_rows: int) -> tuple[int, int]:
        """``(first, one past the last)`` of the rows that have to be read in order to check rows `start` to `stop`."""
        return start // self.rows * self.rows, min(-(-stop // self.rows) * self.rows, n_rows)

    def damaged(self, start: int, rows: AnyArray) -> list[tuple[int, int]]:
        """``(first, last)`` row of every block in `rows` that does not have its sum; `start` begins a block."""
        view, size = _bytes(rows), rows[:1].nbytes
        found: list[tuple[int, int]] = []
        for low in range(0, len(rows), self.rows):
            high = min(low + self.rows, len(rows))
            number = (start + low) // self.rows
            if number >= len(self.sums) or zlib.crc32(view[low * size : high * size]) != self.sums[number]:
                found.append((start + low, start + high - 1))
        return found

    def check(self, start: int, rows: AnyArray) -> None:
        """Raise `FileError` if `rows` are not what was written; their first one, number `start`, begins a block."""
        if found := self.damaged(start, rows):
            first, last = found[0]
            raise FileError(
                f"{self.path} is damaged: rows {first} to {last} of /{self.name} are not what was written;"
                " restore the file or make it again (`repair` saves what is whole)"
            )


def read_blocks(file: Store, name: str) -> Blocks:
    """`Blocks` of the data set `name` of an ensemble file."""
    path = f"{SEAL}/{name}"
    return Blocks(name, file.path, file.attribute_int("rows", path, least=1), file.data(path, "u", 1, 4)[()])


def damaged_parts(file: Store) -> list[str]:
    """Names of the parts of a sealed ensemble file that are not what was written; empty if all is well.

    Raises
    ------
    FileError
        The seal cannot be read.
    """
    stored, found = file.group(SEAL).json("parts"), found_parts(file)
    return sorted(name for name in stored.keys() | found.keys() if stored.get(name) != found.get(name))


def written_parts(
    header: Header,
    provenance: Provenance,
    run_id: str,
    checksums: Mapping[str, str],
    columns: Columns,
    rng: Description | None,
    state: ChainState | None,
) -> Description:
    """Contents of the parts that the seal covers, by name, from what the writer was given; JSON-able or arrays.

    `found_parts` finds the same in the finished file.
    """
    texts = {"config_json": provenance.config_json, "config_toml": provenance.config_toml}
    texts["parents"] = canonical_json(provenance.parents)
    if provenance.lineage:
        texts["lineage"] = canonical_json(provenance.lineage)
    parts: Description = {
        "schema": {"schema": SCHEMA, "schema_version": SCHEMA_VERSION},
        "ensemble": header.attributes(),
        "provenance": {
            "attributes": {
                **{name: getattr(provenance, name) for name in ("program", "version", "commit", "created")},
                "libraries": canonical_json(provenance.libraries),
                "run_id": run_id,
            },
            "texts": texts,
        },
        "checksums": canonical_json(checksums),
        "history": {name: bool(is_bool) for name, (_, is_bool, _) in columns.items()},
    }
    if state is not None:
        arrays = {name: getattr(state, name) for name in STATE_ARRAYS}
        parts["state"] = {name: np.asarray(rows, np.float64) for name, rows in arrays.items() if rows is not None}
        parts["rng"] = canonical_json({"streams": rng, "update": int(state.update)})
    return parts


def found_parts(file: Store) -> dict[str, str]:
    """SHA-256 of every part of an ensemble file as it is now, by name; see docs/file-format.md."""

    def attributes(names: Iterable[str], of: str) -> Description:
        group = file.group(of)
        return {name: group.attribute(name) if group.has_attribute(name) else None for name in names}

    def listed(values: Description) -> Description:
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}

    provenance, history = file.group("provenance"), file.group("history").names()
    datasets = {f"configurations/{name}" for name in file.group("configurations").names()}
    datasets |= {f"history/{name}" for name in history}
    layout: Description = {}
    blocks: Description = {}
    for name in sorted(datasets):
        data = file.data(name)
        layout[name] = _layout(data.dtype, data.shape)
        if f"{SEAL}/{name}" in file:
            found = read_blocks(file, name)
            blocks[name] = {"rows": found.rows, "sums": found.sums}
    parts: Description = {
        "schema": {name: file.attribute(name) for name in ("schema", "schema_version")},
        "ensemble": listed(attributes(HEADER_ATTRIBUTES, "ensemble")),
        "provenance": {
            "attributes": attributes(PROVENANCE_ATTRIBUTES, "provenance"),
            "texts": {
                name: provenance.text(name) for name in (*PROVENANCE_TEXTS, *(["lineage"] * ("lineage" in provenance)))
            },
        },
        "checksums": file.text("checksums"),
        "history": {name: bool(file.attribute_int("is_bool", f"history/{name}")) for name in history},
        "layout": layout,
        "blocks": blocks,
    }
    if "state" in file:
        state = file.group("state")
        parts["state"] = {name: state.data(name)[()] for name in state.names()}
    if "rng" in file:
        parts["rng"] = file.text("rng")
    return {name: _sha(part) for name, part in parts.items()}


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


def damaged_rows(file: Store, name: str) -> list[tuple[int, int]]:
    """``(first, last)`` row of every block of a data set that is not what was written."""
    blocks, data = read_blocks(file, name), file.data(name)
    found: list[tuple[int, int]] = []
    step = max(1, READ_BYTES // BLOCK_BYTES) * blocks.rows
    for start in range(0, len(data), step):
        found += blocks.damaged(start, data[start : start + step])
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
