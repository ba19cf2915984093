"""The door to HDF5: every group, data set and attribute of a file is looked at before it is believed.

A file may come from anybody. HDF5 lets it name *other* files (external links, external storage, virtual data sets),
whose content would then leave in an export, and lets a few bytes declare a data set of 2^40 rows. So whatever is not
stored in the file itself is refused, and so is what the file is too small to hold.

h5py has no error of its own: a malformed structure comes as `KeyError`, `OSError`, `RuntimeError`, `ValueError`,
`TypeError` or `OverflowError`. They become `FileError` here, by `stored_data.looking`, and only calls of h5py are made
under that cover.
"""

import os
from typing import Any, Self, TypeVar, overload

import h5py
import numpy as np

from ..errors import FileError
from ..types import Description, PathLikeStr, Shape
from ..untrusted import TEXT_BYTES, parse_json, printable, regular_file
from .heaps import require_sound_heaps, text_length
from .stored_data import MOST_COMPRESSED, Data, looking, require_inside

__all__ = ["MOST_COMPRESSED", "Data", "Store", "open_h5"]

_T = TypeVar("_T")
_KINDS = {"f": "floating-point numbers", "i": "integers", "u": "unsigned integers", "S": "a string", "b": "booleans"}


def open_h5(path: PathLikeStr) -> "Store":
    """Open an HDF5 file for reading, or say in one line why it cannot be read.

    Returns
    -------
    Store
        The root group; close it, or use it in a ``with`` statement.

    Raises
    ------
    FileError
        Nothing there, a pipe or device, truncated, or no HDF5.
    """
    regular_file(path, "an HDF5 file")
    try:
        file = h5py.File(path, "r")
        try:
            require_sound_heaps(file, path)
        except BaseException:
            file.close()
            raise
        return Store(file, path)
    except FileError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError) as exc:
        text = str(exc)
        if "truncated" in text:
            raise FileError(f"{path} is truncated; `repair` saves the configurations that are whole") from exc
        if "signature" in text:
            raise FileError(f"{path} is not an HDF5 file; expected an ensemble, such as `generate` writes") from exc
        errno = getattr(exc, "errno", None)
        raise FileError(f"{path} cannot be opened: {os.strerror(errno) if errno else printable(text, 200)}") from exc


class Store:
    """A group of an HDF5 file.

    Parameters
    ----------
    group : h5py.Group
    path : path
        Path of the file, for messages.
    """

    def __init__(self, group: h5py.Group, path: PathLikeStr) -> None:
        self._group, self.path = group, path

    def close(self) -> None:
        """Close the whole file."""
        with looking(self.path, "the file"):
            self._group.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _called(self, name: str) -> str:
        """Path of `name` in the file, for messages."""
        return f"{self._group.name or ''}/{name}".replace("//", "/")

    def __contains__(self, name: str) -> bool:
        """Whether there is a link of that name, of whatever kind; what it leads to is looked at on access."""
        here: Store = self
        *folders, last = name.split("/")
        for folder in folders:
            if folder not in here:
                return False
            here = here.group(folder)
        with looking(self.path, here._called(last)):
            return bool(here._group.id.links.exists(last.encode()))

    def names(self) -> list[str]:
        """Names of everything in the group, sorted."""
        with looking(self.path, self._group.name):
            return sorted(self._group)

    def _item(self, name: str) -> Any:
        """The object called `name`, which must be stored in the file itself."""
        *folders, last = name.split("/")
        if folders:
            return self.group("/".join(folders))._item(last)
        called = self._called(name)
        if name not in self:
            raise FileError(f"{self.path} lacks part of the schema: {printable(called)}")
        with looking(self.path, called):
            kind = self._group.id.links.get_info(name.encode()).type
            if kind != h5py.h5l.TYPE_HARD:
                word = {h5py.h5l.TYPE_SOFT: "a soft link", h5py.h5l.TYPE_EXTERNAL: "a link to another file"}
                raise FileError(
                    f"{self.path}: {printable(called)} is {word.get(kind, 'a link of an unknown kind')}, which is not"
                    " followed; copy the data into the file (h5repack or h5copy)"
                )
            return self._group[name]

    def _wanted(self, name: str, kind: type, word: str) -> Any:
        """The object called `name`, which must be of type `kind`, called `word` in messages."""
        item = self._item(name)
        if not isinstance(item, kind):
            found = {h5py.Group: "a group", h5py.Dataset: "a data set", h5py.Datatype: "a type"}.get(type(item), "else")
            raise FileError(f"{self.path}: {printable(self._called(name))} is {found}; expected {word}")
        return item

    def group(self, name: str) -> "Store":
        """The group `name` as a `Store`."""
        return Store(self._wanted(name, h5py.Group, "a group"), self.path)

    def data(self, name: str, kinds: str = "fiu", ndim: int | None = None, itemsize: int | None = None) -> "Data":
        """The data set `name`; nothing is read yet.

        Parameters
        ----------
        name : str
        kinds : str
            Kinds of NumPy types that will do, as of ``dtype.kind``.
        ndim : int, optional
            Number of axes wanted.
        itemsize : int, optional
            Bytes of a number wanted.

        Raises
        ------
        FileError
            It is not there, is no data set, has another type or number of axes, or is not stored in the file itself.
        """
        data = self._wanted(name, h5py.Dataset, "a data set")
        called = f"{self.path}: {printable(self._called(name))}"
        with looking(self.path, self._called(name)):
            require_inside(data, called, self.path)
            if data.dtype.kind not in kinds or (itemsize is not None and data.dtype.itemsize != itemsize):
                wanted = " or ".join(_KINDS.get(kind, kind) for kind in kinds)
                of = f" of {itemsize} bytes" if itemsize else ""
                raise FileError(f"{called} holds {printable(data.dtype, 60)}; expected {wanted}{of}")
            if ndim is not None and len(data.shape) != ndim:
                raise FileError(f"{called} has shape {data.shape}; expected {ndim} axes")
            return Data(data, self.path)

    def datasets(self) -> list[str]:
        """Names of all data sets below this group that are stored in the file, in alphabetical order."""
        names: list[str] = []

        def note(name: str, item: h5py.HLObject) -> None:
            if isinstance(item, h5py.Dataset):
                names.append(name)

        with looking(self.path, self._group.name):
            self._group.visititems(note)
        return names

    def shape(self, name: str) -> Shape | None:
        """Shape that the data set `name` declares, None if it is empty; `data` finds out whether it is true."""
        data = self._wanted(name, h5py.Dataset, "a data set")
        with looking(self.path, self._called(name)):
            found: Shape | None = data.shape
        return found

    def text(self, name: str) -> str:
        """A scalar string data set as `str`; raises `FileError` if it is something else."""
        data, called = self._wanted(name, h5py.Dataset, "a string"), self._called(name)
        with looking(self.path, called):
            require_inside(data, f"{self.path}: {printable(called)}", self.path)
            if data.shape != () or h5py.check_string_dtype(data.dtype) is None:
                raise FileError(
                    f"{self.path}: {printable(called)} is {printable(data.dtype, 60)} of shape {data.shape};"
                    " expected a string"
                )
            if h5py.check_string_dtype(data.dtype).length is None and text_length(data, self.path) > TEXT_BYTES:
                raise FileError(f"{self.path}: {printable(called)} declares a text of more than {TEXT_BYTES} bytes")
            return str(data[()].decode())

    @overload
    def json(self, name: str) -> Description: ...

    @overload
    def json(self, name: str, kind: type[_T]) -> _T: ...

    def json(self, name: str, kind: type = dict) -> Any:
        """A scalar string data set with a JSON document of Python type `kind`; raises `FileError` otherwise."""
        return _require_json(self.text(name), kind, f"{self.path}: {printable(self._called(name))}")

    def has_attribute(self, name: str, of: str | None = None) -> bool:
        """Whether this group, or the item `of` in it, has an attribute of that name."""
        with looking(self.path, f"attribute {name}"):
            return name in self._holder(of).attrs

    def _holder(self, of: str | None) -> Any:
        """This group, or the item `of` in it."""
        return self._group if of is None else self._item(of)

    def attribute(self, name: str, of: str | None = None) -> Any:
        """An attribute of this group, or of the item `of` in it, as h5py gives it: numbers, strings, arrays of them."""
        holder = self._holder(of)
        called = f"attribute {name} of {holder.name}"
        with looking(self.path, called):
            if name not in holder.attrs:
                raise FileError(f"{self.path} lacks part of the schema: {printable(called)}")
            about = h5py.h5a.open(holder.id, name.encode())
            dtype = about.dtype
            plain = dtype.kind in "fiubS" or h5py.check_string_dtype(dtype) is not None or _is_enum_bool(dtype)
            if not plain or about.get_storage_size() > regular_file(self.path):
                raise FileError(
                    f"{self.path}: {printable(called)} is {printable(dtype, 60)}; expected a number or text"
                )
            return holder.attrs[name]

    def attribute_text(self, name: str, of: str | None = None) -> str:
        """An attribute that is a string; raises `FileError` otherwise."""
        value = self.attribute(name, of)
        with looking(self.path, f"attribute {name}"):
            value = value.decode() if isinstance(value, bytes) else value
        if not isinstance(value, str):
            raise FileError(f"{self.path}: attribute {name} is {printable(value, 60)}; expected a string")
        return str(value)

    def attribute_json(self, name: str, of: str | None = None, kind: type[Description] = dict) -> Description:
        """An attribute that is a JSON document of Python type `kind`; raises `FileError` otherwise."""
        return _require_json(self.attribute_text(name, of), kind, f"{self.path}: attribute {name}")

    def attribute_int(self, name: str, of: str | None = None, least: int = 0) -> int:
        """An attribute that is an integer of at least `least`; raises `FileError` otherwise."""
        value = np.asarray(self.attribute(name, of))
        if value.shape != () or value.dtype.kind not in "iub" or value < least:
            raise FileError(
                f"{self.path}: attribute {name} is {printable(value, 60)}; expected an integer of at least {least}"
            )
        return int(value)


def _require_json(text: str, kind: type[_T], source: str) -> _T:
    """The JSON document in `text`, or `FileError` unless it is of Python type `kind`."""
    value = parse_json(text, source)
    if not isinstance(value, kind):
        raise FileError(f"{source} holds {printable(type(value).__name__)}; expected {kind.__name__}")
    return value


def _is_enum_bool(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "b" or h5py.check_enum_dtype(dtype) is not None
