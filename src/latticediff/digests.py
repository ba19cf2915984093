"""Digests of small documents, kept inside them: a changed number in a marker or a header is no longer believed.

A document is a dict that goes to JSON; its digest, under the key ``sha256``, is that of the rest with sorted keys. One
without that key was made by an older version, and is taken as it is.
"""

import hashlib
import json

from .errors import FileError

__all__ = ["check_digest", "json_digest", "with_digest"]

KEY = "sha256"


def json_digest(fields):
    """SHA-256 of a JSON-able value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def with_digest(fields):
    """`fields` and their digest."""
    return {**fields, KEY: json_digest(fields)}


def check_digest(document, source, remedy="restore it"):
    """The fields of a `document` without its digest.

    Parameters
    ----------
    document : dict
    source : path or str
        Its name, for the message.
    remedy : str
        What to do about a damaged one.

    Raises
    ------
    FileError
        The digest is there and does not match.
    """
    fields = {key: value for key, value in document.items() if key != KEY}
    if KEY in document and document[KEY] != json_digest(fields):
        raise FileError(f"{source} is damaged or was changed by hand: its digest does not match; {remedy}")
    return fields
