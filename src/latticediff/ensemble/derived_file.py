"""A file made from others: its parents and its stretches of chains are recorded, nothing is overwritten."""

from collections.abc import Iterable, Sequence

from ..atomic import refuse_existing
from ..markov import ChainState
from ..provenance import collect
from ..streams import Streams
from ..types import PathLikeStr
from .lineage import Stretch, joined
from .reader import Ensemble
from .schema import Header
from .tables import Columns, Piece
from .writer import write_ensemble

__all__ = ["derive"]


def derive(
    out: PathLikeStr,
    parents: Sequence[Ensemble],
    header: Header,
    *,
    n_cfg: int,
    n_updates: int,
    columns: Columns,
    pieces: Iterable[Piece],
    stretches: Iterable[Stretch],
    end: tuple[ChainState | None, Streams | None] = (None, None),
) -> Ensemble:
    """Write a file made from others; `end` is the (state, streams) that makes it extendable."""
    refuse_existing(out)
    first = parents[0].provenance
    state, streams = end
    named = [parent.parent() for parent in parents]
    write_ensemble(
        out,
        header,
        n_cfg=n_cfg,
        n_updates=n_updates,
        columns=columns,
        pieces=pieces,
        provenance=collect(first.config_json, first.config_toml, named, joined(stretches)),
        state=state,
        rng=None if streams is None else streams.state(),
    )
    return Ensemble(out)
