"""Files that are whole or absent: written as ``X.part``, synced, renamed; errors of the disk in one line.

Every file that replaces another one is written here. Rooms: `disk` (its errors, its room, names that are taken),
`part` (``X.part``), `files` (whole files, and those of our own bookkeeping), `folders` (one writer at a time, all
files at once).
"""

from .disk import DISK_FULL, disk_error, refuse_existing, require_space, sync_dir, sync_file
from .files import open_own, scratch, sealed_bytes, sealed_text, whole
from .folders import all_at_once, claimed, entries_of

__all__ = [
    "DISK_FULL",
    "all_at_once",
    "claimed",
    "disk_error",
    "entries_of",
    "open_own",
    "refuse_existing",
    "require_space",
    "scratch",
    "sealed_bytes",
    "sealed_text",
    "sync_dir",
    "sync_file",
    "whole",
]
