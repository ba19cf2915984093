"""Where chains begin: hot, cold, or the last configurations of a file."""

import numpy as np

from ..action import Action
from ..action.site_terms import site_terms
from ..errors import FileError, UserError
from ..lattice import check_shape
from ..streams import Streams
from ..types import Extents, FloatArray, PathLikeStr
from .reader import Ensemble

__all__ = ["site_width", "start_fields"]


def start_fields(
    kind: PathLikeStr | float, n_chains: int, shape: Extents, streams: Streams, action: Action | None = None
) -> FloatArray:
    """First fields of `n_chains` chains.

    Parameters
    ----------
    kind : str, float or path
        ``"hot"``: independent normal values, of the width that a single site has without its neighbours (1 if
        no action is given). ``"cold"``: the constant field +1 on even
        chains, -1 on odd ones, so that both wells are populated. A number: that constant field. Anything else: an
        ensemble file, whose last `n_chains` configurations are used.
    n_chains : int
    shape : tuple of int
    streams : Streams
        Stream ``start`` is drawn from.
    action : Action, optional
        Sets the width of a hot start; a start file must be of this action.

    Returns
    -------
    ndarray, shape (n_chains, *shape), float64

    Raises
    ------
    UserError
        `n_chains` is below 1, `shape` is no lattice, or the width of a hot start does not exist; see `site_width`.
    FileError
        The start file is missing, of another theory, or holds too few configurations.
    """
    shape = check_shape(shape)
    if n_chains < 1:
        raise UserError(f"n_chains = {n_chains}; expected at least 1")
    if kind == "hot":
        width = 1.0 if action is None else site_width(action)
        return width * streams.generator("start").standard_normal((n_chains, *shape))
    if kind == "cold":
        signs = np.where(np.arange(n_chains) % 2 == 0, 1.0, -1.0)
        return np.broadcast_to(signs.reshape(-1, *[1] * len(shape)), (n_chains, *shape)).copy()
    if isinstance(kind, int | float):
        return np.full((n_chains, *shape), float(kind))
    with Ensemble(kind) as ensemble:
        ensemble.expect(action, shape)
        if ensemble.n_cfg < n_chains:
            raise FileError(f"{kind} holds {ensemble.n_cfg} configurations; {n_chains} chains want one each")
        return ensemble.phis(ensemble.n_cfg - n_chains)


def site_width(action: Action) -> float:
    r"""Standard deviation of one site without its neighbours, density ``exp(-V(phi))``.

    Fields much wider than that sit where the force is so steep that a step size tuned on other chains
    is unstable: at lam = 6.975 of convention A, 27 of 64 chains started with unit variance never moved.
    The mean and the variance are sums over 4001 points of a range at whose ends the density is below 1e-12
    of its maximum.

    Raises
    ------
    UserError
        If exp(-V) cannot be normalised, or has no such range up to \|phi\| = 4096.
    """
    if hasattr(action, "site_width"):
        width: float = action.site_width()
        return width
    alone = site_terms(action).of  # a field moves sites, and neither it nor a random mass widens them much
    for reach in 2.0 ** np.arange(-6, 13):  # the first range whose ends carry no weight
        phi = np.linspace(-reach, reach, 4001)
        log_p = -alone.potential(phi)
        if not np.all(np.isfinite(log_p)):
            break
        p = np.exp(log_p - log_p.max())
        if max(p[0], p[-1]) < 1e-12:
            return float(np.sqrt((p * (phi - (p * phi).sum() / p.sum()) ** 2).sum() / p.sum()))
    raise UserError(f"exp(-V) of {action!r} has no finite width; start cold or from a file")
