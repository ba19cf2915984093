"""Digests of small documents, kept inside them: a changed number in a marker, a header or a card is no longer believed.

A document is a dict that goes to JSON or TOML; its digest, under the key ``sha256``, is that of the rest with sorted
keys. One without that key was made by an older version, and is taken as it is. In the card of a model ``sha256`` is the
hash of the model, and ``card_sha256`` that of the card: of its time grids, shape, bills and metrics, which the hash of
the model does not cover.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from .errors import FileError
from .types import Description, PathLikeStr

__all__ = ["CARD_KEY", "check_digest", "json_digest", "with_digest"]

KEY, CARD_KEY = "sha256", "card_sha256"


def json_digest(fields: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON-able value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True, default=str).encode()).hexdigest()  # TOML has dates


def with_digest(fields: Mapping[str, Any], key: str = KEY) -> Description:
    """`fields` and their digest under `key`; a digest that was there before is replaced."""
    fields = {name: value for name, value in fields.items() if name != key}
    return {**fields, key: json_digest(fields)}


def check_digest(
    document: Mapping[str, Any], source: PathLikeStr, remedy: str = "restore it", key: str = KEY
) -> Description:
    """The fields of a `document` without its digest, which must match them if it is there.

    Parameters
    ----------
    document : dict
    source : path or str
        Name of the document, for the message.
    remedy : str
        What to do about a damaged document, for the message.
    key : str
        Where the digest is.

    Raises
    ------
    FileError
        The digest is there and does not match.
    """
    fields = {name: value for name, value in document.items() if name != key}
    if key in document and document[key] != json_digest(fields):
        raise FileError(f"{source} is damaged or was changed by hand: its digest does not match; {remedy}")
    return fields
