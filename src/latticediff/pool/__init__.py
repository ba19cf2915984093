"""Pools of weighed proposals on disk, for Monte Carlo codes in any language; see docs/embedding.md.

Rooms: `header` (what a pool says of itself), `hdf5` and `binary` (its two forms), `files` (either of them by suffix),
`consumed` (a draw is used once), `served` (a pool as a `Proposal`).
"""

from .files import open_pool, write_pool
from .header import Pool, PoolHeader
from .served import PoolProposal

__all__ = ["Pool", "PoolHeader", "PoolProposal", "open_pool", "write_pool"]
