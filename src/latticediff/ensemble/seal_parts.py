"""Small parts that a seal covers: what the writer was given, what is found in a file, and one SHA-256 for each."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..markov import ChainState
from ..provenance import Provenance
from ..types import Description, Extents
from .block_sums import SEAL, as_bytes, read_blocks
from .files import canonical_json
from .schema import HEADER_ATTRIBUTES, PROVENANCE_ATTRIBUTES, PROVENANCE_TEXTS, SCHEMA, SCHEMA_VERSION, Header
from .stored import Store
from .tables import Columns

__all__ = ["damaged_parts", "found_parts", "layout_of", "sha_of", "written_parts"]

STATE_ARRAYS = ("phi", "action", "log_q", "latent")


def sha_of(value: object) -> str:
    """SHA-256 of nested dicts of JSON-able values and arrays, in hex; of an array, type, shape and content enter."""

    def plain(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: plain(entry) for key, entry in item.items()}
        if isinstance(item, np.ndarray) and item.ndim:
            return [str(item.dtype.newbyteorder("=")), list(item.shape), hashlib.sha256(as_bytes(item)).hexdigest()]
        if isinstance(item, bytes):
            return item.decode(errors="replace")
        return item.item() if isinstance(item, np.generic | np.ndarray) else item

    return hashlib.sha256(canonical_json(plain(value)).encode()).hexdigest()


def layout_of(dtype: DTypeLike, shape: Extents) -> list[Any]:
    """Type and shape of a data set, JSON-able."""
    return [str(np.dtype(dtype).newbyteorder("=")), [int(extent) for extent in shape]]


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
        layout[name] = layout_of(data.dtype, data.shape)
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
    return {name: sha_of(part) for name, part in parts.items()}
