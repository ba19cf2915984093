r"""Whether foreign fields are of the theory that they are said to be of.

Fields of one theory in two conventions differ by a factor, so a file read under the wrong convention
looks plausible and is wrong by tens of per cent. Two checks find it: values of S that the file brings
along are recomputed; and, with or without them, the Schwinger-Dyson identity
:math:`\langle A \rangle = V`, :math:`A = \sum_x \phi\, \partial S / \partial \phi`, must hold, which it does for
equilibrium fields of the right theory only.
"""

from collections.abc import Iterator
from contextlib import suppress

import numpy as np

from ..action import CONVENTIONS, Action, Phi4
from ..errors import FileError, UserError
from ..lattice import volume
from ..types import FloatArray, PathLikeStr

__all__ = ["Outcome", "are_few", "check_action", "check_identity"]

# the file's S may have been computed in single precision; a wrong convention is off by order 0.1 per site
_S_TOLERANCE = 1e-4
_N_BLOCKS = 16
# 8 sigma of a mean over 16 blocks: a false alarm in 1e6 (Student, 15 degrees of freedom)
_N_SIGMA = 8.0
# and as many where the error follows from the theory, without a spread
_N_SIGMA_KNOWN = 5.0
_SUSPECT = 4.0  # sigma from which on a value that passes is pointed out
_TELLING = 0.3  # error bar, 3 sigma, within which another theory's identity says something
_STEP = 1e-4  # of the rescaling phi -> (1 +- step) phi by which A is differentiated

Outcome = tuple[str, float, float, str]  #: check, value, error and note of a `ConvertReport`


def _alternatives(action: Action) -> Iterator[tuple[str, Phi4, float]]:
    """``(advice, S, scale)`` for other theories that the user may have meant: S acts on scale * fields of the file."""
    if not isinstance(action, Phi4):
        return
    for name, convention in CONVENTIONS.items():
        if name == action.convention:
            continue
        with suppress(UserError):  # not every theory has every form
            _, scale = action.in_convention(name)
            yield f"the fields are normalised as in convention {name}: pass field_convention={name!r}", action, scale
        if set(convention.couplings) == set(action.couplings):
            with suppress(UserError):
                yield f"the couplings are those of convention {name}", Phi4(name, action.couplings, action.ndim), 1.0


def _offset(phi: FloatArray, stored: FloatArray, action: Action, scale: float = 1.0) -> tuple[float, float]:
    """Constant between stored and computed S per site, and the largest deviation from it."""
    gap = (stored - action(scale * phi)) / volume(phi.shape[1:])
    constant = float(np.median(gap))
    constant = 0.0 if abs(constant) < _S_TOLERANCE else constant
    return constant, float(np.max(np.abs(gap - constant)))


def check_action(path: PathLikeStr, phi: FloatArray, stored: FloatArray, action: Action) -> Outcome:
    """Compare S of the file with `action`; raises `FileError` if they differ by more than a constant."""
    constant, worst = _offset(phi, stored, action)
    if worst <= _S_TOLERANCE * max(1.0, float(np.max(np.abs(stored))) / volume(phi.shape[1:])):
        # some forms carry a constant per site, lam (phi^2 - 1)^2 for one: the same theory
        note = f"the file's S is larger by {constant:.6g} per site" if constant else ""
        return "action", worst, 0.0, note
    for words, other, scale in _alternatives(action):
        if _offset(phi, stored, other, scale)[1] <= _S_TOLERANCE:
            raise FileError(f"{path}: the stored action is not that of {action!r}; {words}")
    raise FileError(
        f"{path}: the stored action is not that of {action!r} (off by up to {worst:.3g} per site);"
        " check couplings, convention and axis order"
    )


def _per_site(phi: FloatArray, action: Action, scale: float = 1.0) -> FloatArray:
    """``A / V`` of each field, (n_cfg,); the action is that of ``scale * phi``."""
    field = scale * phi
    found: FloatArray = -(field * action.force(field)).mean(axis=tuple(range(1, phi.ndim)))
    return found


def _spread(phi: FloatArray, action: Action, n_chains: int, scale: float = 1.0) -> tuple[float, float]:
    """``<A>/V``, which is 1 in equilibrium, and its error from the spread of blocks of consecutive updates.

    Parameters
    ----------
    phi : ndarray, shape (n_cfg, *lattice), float64
        Fields as in the file, ordered by update, then by chain.
    action : Action
    n_chains : int
    scale : float
        The action is that of ``scale * phi``.
    """
    per_update = _per_site(phi, action, scale).reshape(-1, n_chains).mean(axis=1)
    blocks = [block.mean() for block in np.array_split(per_update, _N_BLOCKS)]
    return float(np.mean(blocks)), float(np.std(blocks, ddof=1) / np.sqrt(_N_BLOCKS))


def _known_error(phi: FloatArray, action: Action, n_chains: int, scale: float = 1.0) -> tuple[float, float]:
    """``<A>/V`` and its error where too few updates are stored to see a spread.

    The identity of the rescaling phi -> e^t phi, applied to A, gives its variance: ``<A^2> - V^2 = <dA/dt>``, at t = 0.
    Updates count as wholly correlated, as nothing is known of them, and chains as independent, as they were said to be.
    """
    up, down = (_per_site(phi, action, scale * (1 + sign * _STEP)) for sign in (1, -1))
    sites = volume(phi.shape[1:])
    # at least that of a Gaussian, 2 V: of a few sites that happen to be near 0, the estimate is near 0 too
    variance = max(float(np.mean(up - down)) / (2 * _STEP), 2.0) / sites
    return float(_per_site(phi, action, scale).mean()), float(np.sqrt(variance / n_chains))


def are_few(n_cfg: int, n_chains: int) -> bool:
    """Whether there are too few updates to see a spread, so that the identity says little."""
    return n_cfg // n_chains < _N_BLOCKS


def check_identity(
    path: PathLikeStr, phi: FloatArray, action: Action, n_chains: int, is_theory_known: bool = False
) -> Outcome:
    """Test the Schwinger-Dyson identity, of a single configuration if there are no more.

    Parameters
    ----------
    path : path-like
        For messages.
    phi : ndarray, shape (n_cfg, *lattice), float64
        Ordered by update, then by chain.
    action : Action
    n_chains : int
    is_theory_known : bool
        Values of S have shown that it is this theory, so that only equilibrium is in question.

    Returns
    -------
    Outcome
        With a note where the check was weak.

    Raises
    ------
    FileError
        It is off by more than the error allows.
    """
    few = are_few(len(phi), n_chains)
    estimate, limit = (_known_error, _N_SIGMA_KNOWN) if few else (_spread, _N_SIGMA)
    value, error = estimate(phi, action, n_chains)
    off = abs(value - 1) / error if error else np.inf if value != 1 else 0.0
    if off <= limit:
        note = "too few configurations to tell more" if few else ""
        if off > _SUSPECT:
            note = f"off by {off:.1f} errors: is it this theory, and thermalised?{f' {note}' if note else ''}"
        return "schwinger_dyson", value, error, note
    found = f"{path}: <phi dS/dphi>/V = {value:.4f} +- {error:.4f}, expected 1"
    anyway = "(check=False, --no-check, takes them as they are)"
    if is_theory_known:
        raise FileError(f"{found}; S is right, so the fields are not in equilibrium: leave out the warm-up {anyway}")
    for words, other, scale in _alternatives(action):
        mean, spread = estimate(phi, other, n_chains, scale)
        if abs(mean - 1) <= 3 * spread < _TELLING:
            raise FileError(f"{found}; {words}")
    raise FileError(
        f"{found}; the fields are not an equilibrium ensemble of {action!r}, check couplings and convention {anyway}"
    )
