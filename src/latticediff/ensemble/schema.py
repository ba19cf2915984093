"""The HDF5 schema, version 2: names, attributes, header. Described for users in docs/file-format.md."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import h5py
import numpy as np

from ..arrays import real_array
from ..errors import FileError
from ..lattice import MAX_NDIM
from ..markov import ChainState
from ..provenance import Provenance
from ..streams import Streams
from ..types import Description, FloatArray, PathLikeStr, Shape
from ..untrusted import printable
from .files import canonical_json
from .stored import Store

__all__ = [
    "CONFIGURATIONS",
    "HEADER_ATTRIBUTES",
    "PROVENANCE_ATTRIBUTES",
    "PROVENANCE_TEXTS",
    "READABLE",
    "SCHEMA",
    "SCHEMA_VERSION",
    "Header",
    "check_schema",
    "is_ours",
    "read_provenance",
    "read_state",
    "read_state_arrays",
    "restore_streams",
    "schema_version",
    "write_json",
    "write_provenance",
    "write_state",
]

SCHEMA = "latticediff-ensemble"
SCHEMA_VERSION = 2
#: versions that are read as they are; 1 is 2 without a seal
READABLE = (1, 2)

#: attributes of ``/ensemble`` and ``/provenance`` and texts of the latter: what the seal covers
HEADER_ATTRIBUTES = ("action", "convention", "shape", "algorithm", "n_chains", "thin", "first_update", "dtype")
PROVENANCE_ATTRIBUTES = ("program", "version", "commit", "created", "libraries", "run_id")
PROVENANCE_TEXTS = ("config_json", "config_toml", "parents")

#: datasets with one row per configuration, in the order in which they are written: the large one last,
#: so that a truncated file has lost configurations and nothing else (see `repair`)
CONFIGURATIONS = {
    name: np.dtype(kind) for name, kind in (("update", "<i8"), ("series", "<i4"), ("action", "<f8"), ("phi", "<f8"))
}


@dataclass(frozen=True)
class Header:
    """What identifies an ensemble; headers of two parts of one run differ at most in `first_update`."""

    action: Description  #: `Action.describe`
    shape: Shape  #: lattice extents
    algorithm: Description  #: `Kernel.describe`
    n_chains: int
    thin: int  #: updates between stored configurations
    first_update: int = 0  #: updates done before the first row of the history

    @classmethod
    def build(
        cls,
        action: Mapping[str, Any],
        shape: Iterable[int],
        algorithm: Mapping[str, Any],
        n_chains: int,
        thin: int,
        first_update: int = 0,
    ) -> Self:
        """Header with descriptions brought to the form that JSON gives back (tuples become lists)."""
        clean = [json.loads(canonical_json(part)) for part in (action, algorithm)]
        extents = tuple(int(extent) for extent in shape)
        return cls(clean[0], extents, clean[1], int(n_chains), int(thin), int(first_update))

    def attributes(self) -> Description:
        """The attributes of ``/ensemble``, `HEADER_ATTRIBUTES`: strings, integers, and the shape as a list."""
        return {
            "action": canonical_json(self.action),
            "convention": str(self.action.get("convention", "")),
            "shape": list(self.shape),
            "algorithm": canonical_json(self.algorithm),
            "n_chains": self.n_chains,
            "thin": self.thin,
            "first_update": self.first_update,
            "dtype": "float64",
        }

    def write(self, file: h5py.File) -> None:
        """Write the header into the attributes of ``/ensemble``, which is made."""
        attrs = file.create_group("ensemble").attrs
        for name, value in self.attributes().items():
            attrs[name] = np.array(value, np.int64) if name == "shape" else value

    @classmethod
    def read(cls, file: Store) -> Self:
        """The header of an ensemble file; raises `FileError` if it has none, or an impossible one."""
        group = file.group("ensemble")
        shape = np.asarray(group.attribute("shape"))
        if shape.ndim != 1 or not 1 <= len(shape) <= MAX_NDIM or shape.dtype.kind not in "iu" or not (shape >= 1).all():
            raise FileError(f"{file.path}: attribute shape is {printable(shape, 60)}; expected lattice extents")
        action = group.attribute_json("action")
        if not isinstance(action.get("name"), str):
            raise FileError(f"{file.path}: attribute action is {printable(action, 100)}; expected one with a name")
        return cls(
            action,
            tuple(int(extent) for extent in shape),
            group.attribute_json("algorithm"),
            group.attribute_int("n_chains", least=1),
            group.attribute_int("thin", least=1),
            group.attribute_int("first_update"),
        )

    def to_json(self) -> str:
        """The header as canonical JSON; the inverse of `from_json`."""
        return canonical_json(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The header that `to_json` wrote."""
        fields = json.loads(text)
        return cls(**{**fields, "shape": tuple(fields["shape"])})

    def require_same(self, other: Self, path: PathLikeStr) -> None:
        """Raise `FileError` if the header `other`, which the caller wants, is of another run than this one."""
        for name in ("action", "shape", "algorithm", "n_chains", "thin"):
            have, want = getattr(self, name), getattr(other, name)
            if have != want:
                have, want = printable(have, 400), printable(want, 400)
                raise FileError(f"{path} has {name} {have}; this run wants {want}; use another output file")


def is_ours(file: Store) -> bool:
    """Whether an HDF5 file says that it is an ensemble of this program."""
    # an attribute of another kind under this name is no mark of ours either
    return file.has_attribute("schema") and str(file.attribute("schema")) == SCHEMA


def schema_version(file: Store, path: PathLikeStr) -> int:
    """Schema version of an ensemble file; raises `FileError` for any other HDF5 file."""
    if not is_ours(file):
        raise FileError(f"{path} is an HDF5 file but no ensemble of ours; `convert` reads foreign files")
    return file.attribute_int("schema_version")


def check_schema(file: Store, path: PathLikeStr) -> None:
    """Raise `FileError` unless `file` is an ensemble of a schema version that is read as it is."""
    found = schema_version(file, path)
    if found > SCHEMA_VERSION:
        raise FileError(
            f"{path} has schema version {found}; this program reads version {SCHEMA_VERSION}, use a newer latticediff"
        )
    if found not in READABLE:
        raise FileError(f"{path} has schema version {found}; bring it to version {SCHEMA_VERSION} with `migrate`")


def write_json(group: h5py.Group, name: str, value: object) -> None:
    """Write a JSON document as a scalar UTF-8 string dataset."""
    group[name] = canonical_json(value)


def write_provenance(file: h5py.File, provenance: Provenance, run_id: str) -> None:
    """Write ``/provenance``, which is made."""
    group = file.create_group("provenance")
    group.attrs["run_id"] = run_id
    for name in ("program", "version", "commit", "created"):
        group.attrs[name] = getattr(provenance, name)
    group.attrs["libraries"] = canonical_json(provenance.libraries)
    group["config_json"] = provenance.config_json
    group["config_toml"] = provenance.config_toml
    write_json(group, "parents", provenance.parents)
    if provenance.lineage:
        write_json(group, "lineage", provenance.lineage)


def read_provenance(file: Store) -> Provenance:
    """`Provenance` of an ensemble file; raises `FileError` if it is incomplete or malformed."""
    group = file.group("provenance")
    texts = {name: group.attribute_text(name) for name in ("program", "version", "commit", "created")}
    texts |= {name: group.text(name) for name in ("config_json", "config_toml")}
    parents = group.json("parents", list)
    if not all(isinstance(parent, dict) and {"file", "fingerprint"} <= parent.keys() for parent in parents):
        raise FileError(f"{file.path}: /provenance/parents is no list of files and fingerprints")
    libraries = group.attribute_json("libraries") if group.has_attribute("libraries") else {}
    lineage: list[Description] = group.json("lineage", list) if "lineage" in group else []
    return Provenance(**texts, parents=parents, libraries=libraries, lineage=lineage)


def write_state(file: h5py.File, state: ChainState, rng: Description | None) -> None:
    """Write the final `ChainState` and `rng`, a `Streams.state`: all that an extension of the file needs."""
    write_json(file, "rng", {"streams": rng, "update": int(state.update)})
    group = file.create_group("state")
    group["phi"] = real_array(state.phi, "phi")
    group["action"] = real_array(state.action, "action")
    for name in ("log_q", "latent"):
        if (rows := getattr(state, name)) is not None:
            group[name] = real_array(rows, name)


def read_state(file: Store) -> tuple[ChainState, Streams] | tuple[None, None]:
    """``(ChainState, Streams)`` of an ensemble file, or ``(None, None)`` where it holds none.

    Raises
    ------
    FileError
        The state is damaged, or does not fit the header.
    """
    if "state" not in file:
        return None, None
    rng = file.json("rng")
    streams, update = restore_streams(rng.get("streams"), file.path), rng.get("update")
    if isinstance(update, bool) or not isinstance(update, int) or update < 0:
        raise FileError(f"{file.path}: /rng counts {printable(update, 60)} updates; expected a number of at least 0")
    arrays, header = read_state_arrays(file.group("state")), Header.read(file)
    if arrays["phi"].shape != (wanted := (header.n_chains, *header.shape)):
        raise FileError(f"{file.path}: /state/phi has shape {arrays['phi'].shape}; expected {wanted}")
    return ChainState(update=update, **arrays), streams


def read_state_arrays(group: Store) -> dict[str, FloatArray]:
    """Arrays of a `ChainState` by name, float64, with one row for each chain; raises `FileError` if they differ."""
    found: dict[str, FloatArray] = {}
    for name in ("phi", "action", "log_q", "latent"):
        if name in group or name in ("phi", "action"):
            data = group.data(name, "f", itemsize=8)
            if data.ndim < 1 or len(data) != len(found.get("phi", data)):
                raise FileError(f"{group.path}: /state/{name} has shape {data.shape}; expected one row for each chain")
            found[name] = data[()]
    if found["action"].ndim != 1:
        raise FileError(f"{group.path}: /state/action has shape {found['action'].shape}; expected one number a chain")
    return found


def restore_streams(state: Any, path: PathLikeStr) -> Streams:
    """`Streams.restore`, or `FileError` if `state`, which came from a file, is not what `Streams.state` gives."""
    try:
        return Streams.restore(state)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as exc:
        said = f"{type(exc).__name__}: {printable(exc, 100)}"
        raise FileError(f"{path}: the state of the random streams is damaged ({said})") from exc
