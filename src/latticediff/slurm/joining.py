"""One file of all members: their chains side by side, and which chain is of which member.

A joined file keeps the seed of each of its chains in its record of descent (``/provenance/lineage``), so that the
member of a chain, its replica, is read from the file itself and not from how it is called.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..atomic import whole
from ..ensemble import Ensemble, merge
from ..ensemble.lineage import lineage
from ..errors import FileError
from .status import ensembles_of, member_states

if TYPE_CHECKING:
    from ..types import PathLikeStr
    from .plan import Plan

__all__ = ["Replica", "join_members", "replicas"]


@dataclass(frozen=True)
class Replica:
    """The chains of one member in a joined file."""

    index: int  #: counted from 0 in the order of the file
    seed: int | None  #: of its random streams; None: not known
    chains: tuple[int, int]  #: first, and one past the last

    def __str__(self) -> str:
        first, last = self.chains
        return f"replica {self.index}: chains {first} to {last - 1}, seed {self.seed}"


def replicas(ensemble: Ensemble) -> list[Replica]:
    """The independent runs whose chains an ensemble holds.

    Parameters
    ----------
    ensemble : Ensemble
        A file of one run has one replica.

    Returns
    -------
    list of Replica
        They cover all chains, each once.
    """
    found: list[Replica] = []
    for stretch in sorted(lineage(ensemble), key=lambda s: (s.at, s.updates)):
        chains = (stretch.at, stretch.at + stretch.n_chains)
        if found and found[-1].chains == chains and found[-1].seed == stretch.seed:
            continue  # a later stretch of the same chains
        found.append(Replica(len(found), stretch.seed, chains))
    return found


def join_members(plan: Plan, folder: PathLikeStr) -> dict[Path, list[Replica]]:
    """Join the files of all members of a plan, replica k being member k.

    Parameters
    ----------
    plan : Plan
    folder : path-like

    Returns
    -------
    dict of Path to list of Replica
        The joined files. Those that are there already are left as they are.

    Raises
    ------
    FileError
        A member is not finished, or its file is not of its seed; or what `merge` refuses: files of another theory,
        length or thinning, damaged ones, and configurations that would count twice.
    """
    folder = Path(folder)
    states = member_states(plan, folder)
    missing = [state.member.index for state in states if not state.finished]
    if missing:
        raise FileError(
            f"{len(missing)} of {len(states)} members in {folder} are not finished, member {missing[0]} the first"
            f" ({states[missing[0]].done}); see --status, and run lost ones again with --rerun"
        )
    seeds = [member.seed for member in plan.members]
    return {folder / name: _joined(paths, folder / name, seeds) for name, paths in ensembles_of(plan, folder).items()}


def _joined(paths: Sequence[Path], out: Path, seeds: Sequence[int]) -> list[Replica]:
    """The replicas of the file `out`, which is made if it is not there."""
    if not out.exists():
        for path, seed in zip(paths, seeds, strict=True):
            with Ensemble(path) as source:
                _require_seeds(replicas(source), [seed], path)
        if len(paths) == 1:  # nothing to join; the file as it is
            with open(paths[0], "rb") as source_file, whole(out) as file:
                shutil.copyfileobj(source_file, file)
        else:
            merge(paths, out, "chains").close()
    with Ensemble(out) as joined:
        found = replicas(joined)
    _require_seeds(found, seeds, out)
    return found


def _require_seeds(found: Sequence[Replica], seeds: Sequence[int], path: Path) -> None:
    """Raise `FileError` unless a file holds the runs of these seeds, in this order."""
    have = [replica.seed for replica in found]
    if have != list(seeds):
        raise FileError(
            f"{path} holds {len(have)} runs of seeds {have[:3]}, the plan has {len(seeds)} of {list(seeds[:3])};"
            " move it away, and join again"
        )
