"""Kinds of damage to a file: ``kind(path, rng)`` changes it and says what it did. Used by `mutations`.

Those in `H5` know HDF5; the others know bytes and, where there is text, numbers.
"""

import re

import h5py
import numpy as np

__all__ = ["H5", "KINDS"]


def _rewrite(path, change):
    data = bytearray(path.read_bytes())
    data = change(data) or data
    path.write_bytes(bytes(data))


def flip(path, rng):
    """One bit anywhere."""
    offset, bit = rng.randrange(path.stat().st_size), rng.randrange(8)

    def change(data):
        data[offset] ^= 1 << bit

    _rewrite(path, change)
    return f"bit {bit} of byte {offset}"


def byte(path, rng):
    """Another value of one byte."""
    offset, value = rng.randrange(path.stat().st_size), rng.randrange(1, 256)

    def change(data):
        data[offset] = (data[offset] + value) % 256

    _rewrite(path, change)
    return f"byte {offset} + {value}"


def truncate(path, rng):
    size = rng.randrange(path.stat().st_size)
    with open(path, "r+b") as file:
        file.truncate(size)
    return f"to {size} bytes"


def sector(path, rng):
    """512 bytes zero, or a copy of 512 others: what a disk does."""
    size = path.stat().st_size
    to, source = (rng.randrange(max(1, size - 511)) // 512 * 512 for _ in range(2))
    zero = rng.random() < 0.5

    def change(data):
        data[to : to + 512] = (
            bytes(len(data[to : to + 512])) if zero else data[source : source + len(data[to : to + 512])]
        )

    _rewrite(path, change)
    return f"{to} {'zero' if zero else f'from {source}'}"


def structure(path, rng):
    """One bit of an HDF5 file outside of its large data sets, or of the first 4096 bytes of another file."""
    size, inside = path.stat().st_size, []
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            file.visititems(lambda _, item: inside.append(_place(item)) if isinstance(item, h5py.Dataset) else None)
    for _ in range(1000):
        offset = rng.randrange(size if path.suffix == ".h5" else min(size, 4096))
        if not any(low <= offset < high for low, high in inside):
            break
    bit = rng.randrange(8)

    def change(data):
        data[offset] ^= 1 << bit

    _rewrite(path, change)
    return f"bit {bit} of byte {offset}"


def _place(item):
    offset = item.id.get_offset() or 0
    return offset, offset + item.id.get_storage_size()


def digit(path, rng):
    """One digit of a text, or of an attribute or text of an HDF5 file."""
    if path.suffix == ".h5":
        return _digit_of_h5(path, rng)
    raw = path.read_bytes()
    places = [found.start() for found in re.finditer(rb"[0-9]", raw[: 1 << 20])]
    if not places:
        return flip(path, rng)
    place = rng.choice(places)
    old = raw[place : place + 1]
    new = rng.choice([b"%d" % k for k in range(10) if b"%d" % k != old])
    path.write_bytes(raw[:place] + new + raw[place + 1 :])
    return f"{old.decode()} -> {new.decode()} in {raw[max(0, place - 30) : place + 10]!r}"


def line(path, rng):
    """A line of a text away, or twice; other files are truncated."""
    raw = path.read_bytes()
    if path.suffix not in (".toml", ".json", ".jsonl"):
        return truncate(path, rng)
    lines = raw.splitlines(keepends=True)
    number = rng.randrange(len(lines))
    lines[number : number + 1] = rng.choice(([], [lines[number]] * 2))
    path.write_bytes(b"".join(lines))
    return f"line {number}"


def _digit_of_h5(path, rng):
    with h5py.File(path, "r+") as file:
        texts = [name for name in ("rng", "checksums", "meta", "provenance/config_json", "seal/parts") if name in file]
        name = rng.choice(texts)
        text = file[name][()]
        places = [found.start() for found in re.finditer(rb"[0-9]", text)]
        if not places:
            return "nothing"
        place = rng.choice(places)
        new = b"%d" % ((int(text[place : place + 1]) + rng.randrange(1, 10)) % 10)
        _put(file, name, text[:place] + new + text[place + 1 :])
        return f"digit {place} of /{name}"


def _put(file, name, value):
    attrs = dict(file[name].attrs)
    del file[name]
    file[name] = value
    file[name].attrs.update(attrs)


def attribute(path, rng):
    """Another value of one attribute: an integer, a shape or a coupling."""
    with h5py.File(path, "r+") as file:
        holders = [file, *(file[name] for name in ("ensemble", "provenance") if name in file)]
        holders += [file["history"][name] for name in file.get("history", ())]
        holder, key = rng.choice([(holder, key) for holder in holders for key in holder.attrs])
        old = holder.attrs[key]
        if isinstance(old, str):
            places = [found.start() for found in re.finditer("[0-9]", old)] or [0]
            place = rng.choice(places)
            new = (
                old[:place]
                + str((int(old[place]) + 1) % 10 if old[place : place + 1].isdigit() else "x")
                + old[place + 1 :]
            )
        elif np.ndim(old):
            new = rng.choice([old[::-1].copy() + 0, old + 1, np.roll(old, 1), old[:1]])
            new = old * 2 if np.array_equal(new, old) else new
        else:
            new = not old if isinstance(old, bool | np.bool_) else type(old)(int(old) + rng.choice([-1, 1, 3, 18]))
        holder.attrs[key] = new
        return f"{key} of {holder.name}: {old!r} -> {new!r}"[:200]


def number(path, rng):
    """One number of a data set: NaN, infinity, zero, or its last bit."""
    with h5py.File(path, "r+") as file:
        names = []
        file.visititems(lambda name, item: names.append(name) if _is_numbers(item) else None)
        name = rng.choice(names)
        rows = file[name][()]
        flat, place = rows.reshape(-1), rng.randrange(rows.size)
        how = rng.choice(
            ["nan", "inf", "zero", "last bit", "twice"] if rows.dtype.kind == "f" else ["last bit", "twice"]
        )
        if how == "last bit":
            flat.view(np.uint8)[place * rows.itemsize] ^= 1
        elif how == "twice":
            with np.errstate(over="ignore"):
                flat[place] = flat[place] * 2 + (flat[place] == 0)
        else:
            flat[place] = {"nan": np.nan, "inf": np.inf, "zero": 1.0 if flat[place] == 0 else 0.0}[how]
        file[name][()] = rows
        return f"{how} at {place} of /{name}"


def _is_numbers(item):
    return isinstance(item, h5py.Dataset) and item.dtype.kind in "fiu" and item.size > 0


def exchange(path, rng):
    """Two data sets of one shape under each other's name, two rows exchanged, or one data set away."""
    with h5py.File(path, "r+") as file:
        names = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        first = rng.choice(names)
        twins = [name for name in names if name != first and file[name].shape == file[first].shape]
        how = rng.choice(["names", "rows", "away"])
        if how == "names" and twins:
            second = rng.choice(twins)
            for old, new in ((first, "held"), (second, first), ("held", second)):
                file.move(old, new)
            return f"/{first} and /{second}"
        if how == "rows" and file[first].ndim and len(file[first]) > 1:
            rows = file[first][()]
            a, b = rng.sample(range(len(rows)), 2)
            if not np.array_equal(rows[a], rows[b]):
                rows[[a, b]] = rows[[b, a]]
                file[first][()] = rows
                return f"rows {a} and {b} of /{first}"
        del file[first]
        return f"/{first} away"


def reshape(path, rng):
    """Rows of a data set away or twice."""
    with h5py.File(path, "r+") as file:
        names = []
        file.visititems(lambda name, item: names.append(name) if _is_numbers(item) and item.ndim else None)
        name = rng.choice(names)
        rows = file[name][()]
        rows = rng.choice([rows[:-1], rows[::2], np.concatenate([rows, rows[-1:]]), rows[::-1], rows.astype("f4")])
        _put(file, name, rows)
        return f"/{name} of shape {rows.shape}, {rows.dtype}"


H5 = (attribute, number, exchange, reshape)
KINDS = (flip, byte, truncate, sector, structure, digit, line, *H5)
