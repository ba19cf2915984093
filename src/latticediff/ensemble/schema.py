"""The HDF5 schema, version 1: names, attributes, header. Described for users in docs/file-format.md."""

import json
from dataclasses import asdict, dataclass

import numpy as np

from .. import registry
from ..action import Phi4
from ..errors import FileError
from ..markov import ChainState
from ..provenance import Provenance
from ..streams import Streams
from .files import canonical_json

__all__ = [
    "CONFIGURATIONS",
    "SCHEMA",
    "SCHEMA_VERSION",
    "Header",
    "action_from_description",
    "check_schema",
    "read_json",
    "read_provenance",
    "read_state",
    "write_json",
    "write_provenance",
    "write_state",
]

SCHEMA = "latticediff-ensemble"
SCHEMA_VERSION = 1

#: datasets with one row per configuration, in the order in which they are written: the large one last,
#: so that a truncated file has lost configurations and nothing else (see `repair`)
CONFIGURATIONS = {
    name: np.dtype(kind) for name, kind in (("update", "<i8"), ("series", "<i4"), ("action", "<f8"), ("phi", "<f8"))
}


@dataclass(frozen=True)
class Header:
    """What identifies an ensemble; two parts of one run have equal headers but for `first_update`."""

    action: dict  #: `Action.describe`
    shape: tuple  #: lattice extents
    algorithm: dict  #: `Kernel.describe`
    n_chains: int
    thin: int  #: updates between stored configurations
    first_update: int = 0  #: updates done before the first row of the history

    @classmethod
    def build(cls, action, shape, algorithm, n_chains, thin, first_update=0):
        """Header with descriptions brought to the form that JSON gives back (tuples become lists)."""
        clean = [json.loads(canonical_json(part)) for part in (action, algorithm)]
        shape = tuple(int(extent) for extent in shape)
        return cls(clean[0], shape, clean[1], int(n_chains), int(thin), int(first_update))

    def write(self, file):
        """Into the attributes of ``/ensemble``."""
        attrs = file.create_group("ensemble").attrs
        attrs["action"] = canonical_json(self.action)
        attrs["convention"] = str(self.action.get("convention", ""))
        attrs["shape"] = np.array(self.shape, np.int64)
        attrs["algorithm"] = canonical_json(self.algorithm)
        attrs["n_chains"] = self.n_chains
        attrs["thin"] = self.thin
        attrs["first_update"] = self.first_update
        attrs["dtype"] = "float64"

    @classmethod
    def read(cls, file):
        attrs = file["ensemble"].attrs
        action, algorithm = json.loads(attrs["action"]), json.loads(attrs["algorithm"])
        shape = tuple(int(extent) for extent in attrs["shape"])
        return cls(action, shape, algorithm, int(attrs["n_chains"]), int(attrs["thin"]), int(attrs["first_update"]))

    def to_json(self):
        return canonical_json(asdict(self))

    @classmethod
    def from_json(cls, text):
        fields = json.loads(text)
        return cls(**{**fields, "shape": tuple(fields["shape"])})

    def require_same(self, other, path):
        """Raise `FileError` if `other` (what the caller wants) is not this run."""
        for name in ("action", "shape", "algorithm", "n_chains", "thin"):
            have, want = getattr(self, name), getattr(other, name)
            if have != want:
                raise FileError(f"{path} has {name} {have}; this run wants {want}; use another output file")


def action_from_description(description):
    """The `Action` object that `describe` described.

    A user's own class is found through the entry-point group ``latticediff.actions`` by
    ``description["name"]`` and must have `from_description`.

    Raises
    ------
    UserError
        If no such action is installed.
    """
    name = description.get("name")
    if name == "phi4":
        return Phi4.from_description(description)
    return registry.load("actions", name).from_description(description)


def check_schema(file, path):
    """Raise `FileError` unless `file` is an ensemble of this schema version."""
    if file.attrs.get("schema") != SCHEMA:
        raise FileError(f"{path} is an HDF5 file but no ensemble of ours; `convert` reads foreign files")
    found = int(file.attrs["schema_version"])
    if found > SCHEMA_VERSION:
        raise FileError(
            f"{path} has schema version {found}; this program reads version {SCHEMA_VERSION}, use a newer latticediff"
        )
    if found < SCHEMA_VERSION:
        raise FileError(f"{path} has schema version {found}; bring it to version {SCHEMA_VERSION} with `migrate`")


def write_json(group, name, value):
    """A JSON document as a scalar UTF-8 string dataset."""
    group[name] = canonical_json(value)


def read_json(group, name):
    return json.loads(group[name][()].decode())


def write_provenance(file, provenance):
    group = file.create_group("provenance")
    for name in ("program", "version", "commit", "created"):
        group.attrs[name] = getattr(provenance, name)
    group.attrs["libraries"] = canonical_json(provenance.libraries)
    group["config_json"] = provenance.config_json
    group["config_toml"] = provenance.config_toml
    write_json(group, "parents", provenance.parents)


def read_provenance(file):
    group = file["provenance"]
    texts = {name: str(group.attrs[name]) for name in ("program", "version", "commit", "created")}
    texts |= {name: group[name][()].decode() for name in ("config_json", "config_toml")}
    return Provenance(
        **texts, parents=read_json(group, "parents"), libraries=json.loads(group.attrs.get("libraries", "{}"))
    )


def write_state(file, state, rng):
    """Final `ChainState` and `Streams.state`: all that an extension needs."""
    write_json(file, "rng", {"streams": rng, "update": int(state.update)})
    group = file.create_group("state")
    group["phi"] = np.asarray(state.phi, np.float64)
    group["action"] = np.asarray(state.action, np.float64)
    for name in ("log_q", "latent"):
        if (rows := getattr(state, name)) is not None:
            group[name] = np.asarray(rows, np.float64)


def read_state(file):
    """``(ChainState, Streams)``, or ``(None, None)`` where the file holds none."""
    if "state" not in file:
        return None, None
    rng, group = read_json(file, "rng"), file["state"]
    arrays = {name: group[name][()] for name in ("phi", "action", "log_q", "latent") if name in group}
    return ChainState(update=rng["update"], **arrays), Streams.restore(rng["streams"])
