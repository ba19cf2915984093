"""Files and text that others wrote: looked at before they are opened, bounded before they are read, tame when printed.

A path that is given to us may be a pipe, which never ends, or a device; JSON may be nested until the parser dies;
a string in a file may hold the escape sequences with which a terminal is told to do things.
"""

import json
import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Any

from .errors import FileError
from .types import PathLikeStr

__all__ = ["first_bytes", "parse_json", "parse_toml", "printable", "read_bytes", "read_text", "regular_file", "status"]

#: cards, logs of stages, headers: what people and programs write there has some thousand bytes
TEXT_BYTES = 16 << 20

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)

# control characters of C0 and C1, surrogates, and the marks that turn the direction of what follows
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def printable(text: object, limit: int | None = None) -> str:
    r"""`text` on one line that a terminal shows and does not obey: control characters become ``\x1b`` and the like.

    Parameters
    ----------
    text : object
        Its `str` is taken.
    limit : int, optional
        Longer texts are cut, and end with ``...``.
    """
    line = str(text)
    if limit is not None and len(line) > limit:
        line = line[:limit] + "..."
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), line)


def status(path: PathLikeStr) -> os.stat_result | None:
    """`os.stat_result` of `path`, or None if nothing is there.

    Raises
    ------
    FileError
        The name is too long, or a folder on the way cannot be searched.
    """
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as exc:  # ValueError: a NUL in the name
        raise FileError(f"{path} cannot be opened: {getattr(exc, 'strerror', None) or exc}") from None


def regular_file(path: PathLikeStr, what: str = "a file") -> int:
    """Size of the file `path` in bytes; asked before it is opened, since opening a pipe waits for its other end.

    Parameters
    ----------
    path : path-like
    what : str
        What was expected there, for the message.

    Raises
    ------
    FileError
        Nothing is there, or a directory, pipe, socket or device.
    """
    found = status(path)
    if found is None:
        raise FileError(f"{path} does not exist")
    for is_kind, name in _KINDS:
        if is_kind(found.st_mode):
            raise FileError(f"{path} is {name}; expected {what}")
    return found.st_size


def read_bytes(path: PathLikeStr, what: str = "a file", limit: int = TEXT_BYTES) -> bytes:
    """Content of a small file.

    Raises
    ------
    FileError
        The file is refused by `regular_file`, is larger than `limit` bytes, or cannot be read.
    """
    size = regular_file(path, what)
    if size > limit:
        raise FileError(f"{path} has {size} bytes; expected {what} of at most {limit}")
    try:
        return Path(path).read_bytes()
    except OSError as exc:
        raise FileError(f"{path} cannot be read: {exc.strerror or exc}") from None


def first_bytes(path: PathLikeStr, n: int) -> bytes:
    """The first `n` bytes of a file, or all where there are fewer.

    Raises
    ------
    FileError
        It cannot be read: that is no permission, or a disk that fails.
    """
    try:
        with open(path, "rb") as file:
            return file.read(n)
    except OSError as exc:
        raise FileError(f"{path} cannot be read: {exc.strerror or exc}") from None


def read_text(path: PathLikeStr, what: str = "a text file", limit: int = TEXT_BYTES) -> str:
    """Content of a small UTF-8 file, without a byte-order mark.

    Raises
    ------
    FileError
        The file is refused by `read_bytes`, or is no UTF-8 text.
    """
    try:
        return read_bytes(path, what, limit).decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise FileError(f"{path} is no UTF-8 text ({exc.reason} at byte {exc.start}); expected {what}") from None


def parse_json(text: str | bytes, source: PathLikeStr) -> Any:
    """The value that JSON `text` stands for.

    Parameters
    ----------
    text : str or bytes
    source : path or str
        Name of the text, for the message.

    Raises
    ------
    FileError
        `text` is no JSON, or nested too deeply to be read.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise FileError(f"cannot read {source}: it is JSON nested too deeply") from None
    except (ValueError, TypeError) as exc:
        raise FileError(f"cannot read {source}: it is no JSON ({printable(exc, 200)})") from None


def parse_toml(text: str, source: PathLikeStr) -> dict[str, Any]:
    """The table that TOML `text` stands for; parameters and errors as of `parse_json`."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise FileError(f"cannot read {source}: it is TOML nested too deeply") from None
    except ValueError as exc:
        raise FileError(f"cannot read {source}: it is no TOML ({printable(exc, 200)})") from None
