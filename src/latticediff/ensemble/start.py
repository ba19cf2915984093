"""Where chains begin: hot, cold, or the last configurations of a file."""

import numpy as np

from ..errors import FileError, UserError
from ..lattice import check_shape
from .reader import Ensemble

__all__ = ["start_fields"]


def start_fields(kind, n_chains, shape, streams, action=None):
    """First fields of `n_chains` chains.

    Parameters
    ----------
    kind : str or path
        ``"hot"``: independent normal values of unit variance. ``"cold"``: the constant field +1 on even
        chains, -1 on odd ones, so that both wells are populated. Anything else: an ensemble file, whose
        last `n_chains` configurations are used.
    n_chains : int
    shape : tuple of int
    streams : Streams
        Stream ``start`` is drawn from.
    action : Action, optional
        A start file must be of this action.

    Returns
    -------
    ndarray, shape (n_chains, *shape), float64

    Raises
    ------
    UserError
        Impossible `n_chains` or `shape`.
    FileError
        The start file is missing, of another theory, or holds too few configurations.
    """
    shape = check_shape(shape)
    if n_chains < 1:
        raise UserError(f"n_chains = {n_chains}; expected at least 1")
    if kind == "hot":
        return streams.generator("start").standard_normal((n_chains, *shape))
    if kind == "cold":
        signs = np.where(np.arange(n_chains) % 2 == 0, 1.0, -1.0)
        return np.broadcast_to(signs.reshape(-1, *[1] * len(shape)), (n_chains, *shape)).copy()
    with Ensemble(kind) as ensemble:
        ensemble.expect(action, shape)
        if ensemble.n_cfg < n_chains:
            raise FileError(f"{kind} holds {ensemble.n_cfg} configurations; {n_chains} chains want one each")
        return ensemble.phis(ensemble.n_cfg - n_chains)
