"""Ensemble files of somebody who means harm, or whose disk does: one function for each kind, on an open file."""

import contextlib
import json

import h5py
import numpy as np

__all__ = ["REFUSED", "SECRET", "unseal"]

#: numbers of a file that the user can read and the author of a hostile file cannot
SECRET = 1234.5


def unseal(file):
    """Take the seal off: whoever means harm writes a new one, or none, as files of version 1 have none."""
    if "seal" in file:
        del file["seal"]
    file.attrs["schema_version"] = 1


DEEP = "[" * 100_000 + "]" * 100_000
KINDS = {}


def kind(function):
    KINDS[function.__name__] = function
    return function


def put(file, name, value=None, **options):
    """Replace a data set."""
    if name in file:
        del file[name]
    return file.create_dataset(name, data=value, **options)


def shape_of(file):
    return file["configurations/phi"].shape


@kind
def soft_link(file):
    file.move("configurations/phi", "elsewhere")
    file["configurations/phi"] = h5py.SoftLink("/elsewhere")


@kind
def link_to_another_file(file):
    del file["configurations/phi"]
    file["configurations/phi"] = h5py.ExternalLink("secret.h5", "phi")


@kind
def group_in_another_file(file):
    del file["configurations"]
    file["configurations"] = h5py.ExternalLink("secret.h5", "configurations")


@kind
def provenance_in_another_file(file):
    del file["provenance"]
    file["provenance"] = h5py.ExternalLink("secret.h5", "provenance")


@kind
def external_storage(file):
    shape = shape_of(file)
    put(file, "configurations/phi", shape=shape, dtype="<f8", external=[("secret.raw", 0, h5py.h5f.UNLIMITED)])


@kind
def external_text(file):
    del file["provenance/config_toml"]  # create_dataset ignores `external` where there is no axis
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_external(b"secret.raw", 0, 64)
    dtype, space = h5py.h5t.py_create(np.dtype("S64")), h5py.h5s.create(h5py.h5s.SCALAR)
    h5py.h5d.create(file["provenance"].id, b"config_toml", dtype, space, properties)


@kind
def virtual(file):
    layout = h5py.VirtualLayout(shape_of(file), "<f8")
    layout[:] = h5py.VirtualSource("secret.h5", "phi", shape_of(file))
    del file["configurations/phi"]
    file.create_virtual_dataset("configurations/phi", layout)


@kind
def dangling_link(file):
    del file["configurations/action"]
    file["configurations/action"] = h5py.SoftLink("/nowhere")


@kind
def loop(file):
    del file["configurations"]
    file["configurations"] = file["/"]


def _group_instead(name):
    def mutate(file):
        del file[name]
        file.create_group(name)

    KINDS[f"group instead of {name}"] = mutate


def _data_instead(name):
    def mutate(file):
        attributes = dict(file[name].attrs)
        put(file, name, 1.0).attrs.update(attributes)

    KINDS[f"data instead of {name}"] = mutate


def _type_instead(name):
    def mutate(file):
        del file[name]
        file[name] = np.dtype("f8")

    KINDS[f"type instead of {name}"] = mutate


def _missing(name):
    def mutate(file):
        del file[name]

    KINDS[f"missing {name}"] = mutate


for _name in ("phi", "action", "update", "series"):
    for _make in (_group_instead, _type_instead, _missing):
        _make(f"configurations/{_name}")
for _name in ("ensemble", "configurations", "history", "provenance", "state"):
    _data_instead(_name)
for _name in ("ensemble", "configurations", "history", "provenance", "checksums", "rng", "state/phi"):
    _missing(_name)
for _name in ("checksums", "rng", "provenance/parents", "provenance/config_json", "history/accepted", "state/action"):
    _group_instead(_name)


def _typed(name, dtype):
    def mutate(file):
        data = file[name]
        shape, flags = data.shape, dict(data.attrs)
        if isinstance(dtype, str) and dtype in ("object", "region"):
            kind_of = h5py.ref_dtype if dtype == "object" else h5py.regionref_dtype
            made = put(file, name, shape=shape, dtype=kind_of)
        elif isinstance(dtype, str) and dtype == "ragged":
            made = put(file, name, shape=shape, dtype=h5py.vlen_dtype(np.float64))
        else:
            made = put(file, name, np.zeros(shape, dtype))
        made.attrs.update(flags)

    KINDS[f"{name} of type {dtype}"] = mutate


for _type in ("f4", "c16", "S8", "i8", "object", "region", "ragged", [("a", "f8"), ("b", "f8")]):
    _typed("configurations/phi", _type)
for _name in ("configurations/update", "history/delta_h", "history/accepted", "state/phi"):
    for _type in ("S8", "object", "c16"):
        _typed(_name, _type)


def _shaped(name, shape):
    def mutate(file):
        data = file[name]
        wanted, flags = shape(data.shape), dict(data.attrs)
        value = h5py.Empty("f8") if wanted is None else np.zeros(wanted, data.dtype)
        put(file, name, value).attrs.update(flags)

    KINDS[f"{name} of another shape {len(KINDS)}"] = mutate


for _name in ("configurations/phi", "configurations/update", "history/accepted", "state/phi", "state/action"):
    for _shape in (lambda s: None, lambda s: (), lambda s: (s[0] + 1, *s[1:]), lambda s: (*s, 1)):
        _shaped(_name, _shape)


@kind
def rows_2_to_the_40(file):
    lattice = shape_of(file)[1:]
    for name in ("phi", "update", "series", "action"):
        dtype, tail = file[f"configurations/{name}"].dtype, lattice if name == "phi" else ()
        shape = (3 << 38, *tail)
        put(file, f"configurations/{name}", shape=shape, dtype=dtype, chunks=(1 << 10, *tail), maxshape=(None, *tail))


@kind
def updates_2_to_the_40(file):
    put(file, "history/delta_h", shape=(1 << 40, 3), dtype="f8", chunks=(1 << 10, 3)).attrs["is_bool"] = False


@kind
def never_written(file):
    put(file, "configurations/phi", shape=shape_of(file), dtype="<f8")


@kind
def written_in_part(file):
    shape = shape_of(file)
    put(file, "configurations/phi", shape=shape, dtype="<f8", chunks=(1, *shape[1:]))[:2] = 1.0


@kind
def bomb(file):
    put(file, "history/delta_h", shape=(1 << 24, 3), dtype="f8", chunks=(1 << 22, 3), compression="gzip", shuffle=True)
    file["history/delta_h"].attrs["is_bool"] = False
    file["history/delta_h"].id.write_direct_chunk((0, 0), b"\0")


def _attribute(name, label, value, of="ensemble"):
    def mutate(file):
        attributes = file[of].attrs
        with contextlib.suppress(KeyError):
            del attributes[name]
        if value is file:
            attributes[name] = file.ref
        elif value is not None:
            attributes[name] = value

    KINDS[f"attribute {name} {label}"] = mutate


for _value in (None, "8x8", 8, [0, 8], [-8, -8], [1 << 62, 8], [8.0, 8.0], [8] * 30, [], [[8, 8]], [4, 16]):
    _attribute("shape", f"is {_value}", _value)
for _name in ("n_chains", "thin", "first_update"):
    for _value in (None, "3", -1, 1.5, [3, 3]):
        _attribute(_name, f"is {_value}", _value)
_attribute("n_chains", "is 0", 0)
_attribute("n_chains", "is no divisor", 7)
_attribute("n_chains", "is 2^60", 1 << 60)
for _name in ("action", "algorithm"):
    for _label, _value in (
        ("is missing", None),
        ("is a number", 1.5),
        ("is torn", '{"name": "ph'),
        ("is a list", "[1, 2]"),
        ("is deep", DEEP[: 60_000 // 2] + "]" * 30_000),
    ):
        _attribute(_name, _label, _value)
for _label, _value in {
    "is empty": {},
    "has no couplings": {"name": "phi4", "convention": "A", "ndim": 2},
    "has a list of couplings": {"name": "phi4", "convention": "A", "ndim": 2, "couplings": [1]},
    "has a text for its dimension": {"name": "phi4", "convention": "A", "ndim": "2", "couplings": {"m2": 1, "lam": 1}},
    "is of three dimensions": {"name": "phi4", "convention": "A", "ndim": 3, "couplings": {"m2": 1, "lam": 1}},
    "has a list for its name": {"name": ["phi4"], "convention": "A", "ndim": 2, "couplings": {"m2": 1, "lam": 1}},
    "has a list for its convention": {"name": "phi4", "convention": ["A"], "ndim": 2, "couplings": {"m2": 1, "lam": 1}},
}.items():
    _attribute("action", _label, json.dumps(_value))
_attribute("is_bool", "is missing", None, "history/accepted")
_attribute("is_bool", "is a text", "yes", "history/accepted")
_attribute("version", "is a number", 3, "provenance")
_attribute("schema_version", "is a text", "one", "/")
_attribute("schema_version", "is a list", [1, 1], "/")
_attribute("schema", "is a number", 1, "/")


@kind
def attribute_that_is_a_reference(file):
    file["ensemble"].attrs["action"] = file["configurations"].ref


@kind
def attribute_that_is_a_region(file):
    file["ensemble"].attrs["n_chains"] = file["configurations/phi"].regionref[:2]


@kind
def attribute_that_is_a_compound(file):
    file["ensemble"].attrs["shape"] = np.zeros(2, [("a", "i8"), ("b", "i8")])


def _json(name, label, value):
    def mutate(file):
        put(file, name, value)

    KINDS[f"{name} {label}"] = mutate


for _name in ("rng", "checksums", "provenance/parents"):
    for _label, _value in (
        ("is torn", '{"a": '),
        ("is a number", "3"),
        ("is deep", DEEP),
        ("is no UTF-8", np.bytes_(b"\xff\xfe{}")),
        ("is an array", np.zeros(3)),
        ("is a list of numbers", "[1, 2]"),
    ):
        _json(_name, _label, _value)
for _label, _value in {
    "is empty": {},
    "has no streams": {"update": 60},
    "counts no updates": {"streams": {"seed": 3, "path": [], "generators": {}, "children": {}}, "update": "60"},
    "has torn streams": {"streams": {"seed": 3, "path": []}, "update": 60},
    "has a text for a seed": {"streams": {"seed": "x", "path": [], "generators": {}, "children": {}}, "update": 60},
    "has a short counter": {
        "streams": {"seed": 3, "path": [], "generators": {"a": {"counter": [1], "key": [2]}}, "children": {}},
        "update": 60,
    },
}.items():
    _json("rng", _label, json.dumps(_value))

#: what no reader may take: mutation by name
REFUSED = dict(KINDS)
