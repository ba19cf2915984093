"""Whether a file is laid out as the schema says: shapes, types and counts, checked once when it is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..action import Action, action_from_description
from ..errors import FileError
from ..lattice import volume
from ..markov import ChainState
from ..types import Extents, FloatArray, PathLikeStr
from ..untrusted import printable
from .schema import CONFIGURATIONS, Header
from .stored import Store

if TYPE_CHECKING:
    from .reader import Ensemble

__all__ = [
    "action_tolerance",
    "check_state",
    "check_structure",
    "is_bool",
    "require_dimension",
    "state_problems",
]


def check_structure(file: Store) -> tuple[int, int]:
    """Number of configurations and of updates in an ensemble file, whose layout is checked.

    Raises
    ------
    FileError
        Something is missing, does not fit the rest, or has another kind, type or shape than docs/file-format.md says.
    """
    header, path = Header.read(file), file.path
    if header.action.get("name") == "phi4":  # of other actions only those who wrote them know what belongs in there
        require_dimension(action_from_description(header.action), header.shape, path)
    n_cfg: int | None = None
    for name in ("phi", "update", "series", "action"):
        kind, lattice = CONFIGURATIONS[name], header.shape if name == "phi" else ()
        data = file.data(f"configurations/{name}", kind.kind, 1 + len(lattice), kind.itemsize)
        n_cfg = len(data) if n_cfg is None else n_cfg
        if data.shape != (n_cfg, *lattice):
            wanted: object = (n_cfg, *lattice) if name != "phi" else f"(n_cfg, {', '.join(map(str, lattice))})"
            raise FileError(f"{path}: /configurations/{name} has shape {data.shape}; expected {wanted}")
    assert n_cfg is not None  # the loop has seen four data sets
    if n_cfg % header.n_chains:
        raise FileError(f"{path} holds {n_cfg} configurations, no multiple of its {header.n_chains} chains")
    return n_cfg, _check_history(file, header)


def _check_history(file: Store, header: Header) -> int:
    """Number of updates in the history, whose columns are checked."""
    n_updates = 0
    first: str | None = None
    for name in file.group("history").names():
        data = file.data(f"history/{name}", "fiu")
        is_bool(file, name)
        first = first or name
        n_updates = len(data) if first == name and data.ndim else n_updates
        if data.shape not in ((n_updates,), (n_updates, header.n_chains)):
            raise FileError(
                f"{file.path}: /history/{printable(name)} has shape {data.shape}; expected"
                f" ({n_updates}, {header.n_chains}) or ({n_updates},)"
            )
    return n_updates


def require_dimension(action: Action, shape: Extents, path: PathLikeStr) -> None:
    """Raise `FileError` if `action` does not live on a lattice of `shape`."""
    if action.ndim != len(shape):
        raise FileError(f"{path} is of lattice {shape} and of an action in {action.ndim} dimensions")
    if hasattr(action, "components") and action.components != shape[0]:
        raise FileError(f"{path} is of fields {shape} and of an action of {action.components} components")


def is_bool(file: Store, name: str) -> bool:
    """Whether the column `name` of the history of an ensemble file stands for booleans."""
    return bool(file.attribute_int("is_bool", f"history/{name}"))


def action_tolerance(values: FloatArray, shape: Extents) -> FloatArray:
    """Largest difference of S that the order of summation explains: ``1e-10 V max(1, |S| / V)`` on V sites.

    The terms of S cancel, so the scale is the number of sites, not S alone. A wrong convention or
    field normalisation is off by order one per site.

    Parameters
    ----------
    values : ndarray, float64
        Actions S.
    shape : tuple of int
        Lattice extents.

    Returns
    -------
    ndarray, shape of `values`, float64
    """
    sites = volume(shape)
    tolerance: FloatArray = 1e-10 * sites * np.maximum(1, np.abs(values) / sites)
    return tolerance


def state_problems(ensemble: Ensemble, state: ChainState) -> list[str]:
    """What in the final `state` contradicts itself or the configurations, one line for each contradiction."""
    found = []
    arrays = {"phi": state.phi, "action": state.action, "log_q": state.log_q, "latent": state.latent}
    for name, rows in arrays.items():
        if rows is not None and not np.isfinite(rows).all():
            found.append(f"final state: {name} holds a value that is not finite")
    with np.errstate(all="ignore"):  # damaged fields may be as large as numbers go
        gap = np.abs(ensemble.action(state.phi) - state.action)
        fits = gap <= action_tolerance(state.action, ensemble.shape)
    if not fits.all():
        found.append("final state: stored action differs from S(phi)")
    last = ensemble.n_cfg - ensemble.n_chains
    stored = last >= 0 and ensemble.read("update", last, last + 1)[0] == state.update
    if stored and not np.array_equal(ensemble.phis(last), state.phi, equal_nan=True):
        found.append("final state: phi is not the last configuration of each chain")
    return found


def check_state(ensemble: Ensemble, state: ChainState) -> None:
    """Raise `FileError` if the state of a file without a seal contradicts itself or the configurations."""
    if ensemble.description.get("name") == "phi4" and (found := state_problems(ensemble, state)):
        raise FileError(f"{ensemble.path} is damaged: {found[0]}; restore the file or make it again")
