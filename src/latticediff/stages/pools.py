"""What a pool of draws is, and whether it is what it says: for the commands that look at any file."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np

from ..action import action_from_description
from ..errors import FileError
from ..pool import PoolProposal, open_pool
from ..pool.consumed import consumed
from ..pool.files import BYTES, require_digest
from ..pool.header import record_type

if TYPE_CHECKING:
    from ..types import PathLikeStr

__all__ = ["pool_rows", "verify_pool"]


def pool_rows(path: PathLikeStr) -> list[tuple[str, str]]:
    """``(label, text)`` of a pool."""
    with contextlib.closing(open_pool(path)) as pool:
        header = pool.header
        kind = "of field and hidden path" if not header.is_deterministic else "of the field"
        return [
            ("file", f"{pool.path}, pool of weighed draws"),
            ("lattice", "x".join(map(str, header.shape))),
            ("model", f"{header.model}, {header.model_sha256}"),
            ("proposal", f"{header.proposal.get('name')}, {header.proposal_sha256}; log_q is the density {kind}"),
            ("draws", f"{header.n}, {consumed(pool)} of them used"),
            ("seed", f"{header.seed}, stream {header.stream}"),
            ("digest", pool.data_sha256),
        ]


def verify_pool(path: PathLikeStr) -> str:
    """Recompute digest and action of a pool; one line that says what was checked.

    Raises
    ------
    FileError
        Its draws are not those that were written, or not of the theory that it names.
    """
    with contextlib.closing(open_pool(path)) as pool:
        require_digest(pool)
        header = pool.header
        proposal = PoolProposal([pool], [(0, header.n)], action_from_description(header.action))
        step, blown_up = max(1, BYTES // record_type(header.shape).itemsize), 0
        while proposal.left:
            blown_up += int(np.isinf(proposal.draw(min(step, proposal.left)).log_q).sum())
        if blown_up == header.n:
            raise FileError(f"{path}: all of its {header.n} draws blew up; propose with another model")
        return (
            f"{path} is sound: {header.n} draws, {consumed(pool)} of them used, stored action reproduced;"
            f" digest {pool.data_sha256}"
        )
