r"""Foreign configurations in, and out again; a wrong convention is caught at the door.

Fields of one theory in two conventions differ by a factor, so a file read under the wrong convention
looks plausible and is wrong by tens of per cent. Two checks find it: values of S that the file brings
along are recomputed; without them the Schwinger-Dyson identity
:math:`\langle \sum_x \phi\, \partial S / \partial \phi \rangle / V = 1` must hold, which it does for
equilibrium fields of the right theory only.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from ..action import CONVENTIONS, Action, Phi4
from ..arrays import real_array
from ..atomic import refuse_existing
from ..errors import FileError, UserError
from ..host import numpy_defaults
from ..lattice import check_shape, volume
from ..provenance import Provenance
from ..types import Extents, FloatArray, PathLikeStr
from .reader import Ensemble
from .readers import Foreign, Reader, choose_reader
from .stored import Data
from .tables import AnyArray
from .writer import save_ensemble

__all__ = ["ConvertReport", "convert"]

# the file's S may have been computed in single precision; a wrong convention is off by order 0.1 per site
_S_TOLERANCE = 1e-4
_N_BLOCKS = 16
# 8 sigma of a mean over 16 blocks: a false alarm in 1e6 (Student, 15 degrees of freedom)
_N_SIGMA = 8.0
_SAMPLE = 20_000


class ConvertReport(NamedTuple):
    """What `convert` did and how it knows that the theory is right."""

    path: str
    n_cfg: int
    check: str  #: "action", "schwinger_dyson" or "none"
    value: float  #: largest |S - S_file| per site, or the identity's mean
    error: float  #: error of the identity's mean; 0 for the action
    note: str  #: a constant offset of S, or why nothing could be checked


Outcome = tuple[str, float, float, str]  #: check, value, error and note of a `ConvertReport`


class _Scaled:
    """Fields times a number, converted to float64 as they are read."""

    def __init__(self, phis: AnyArray | Data, scale: float) -> None:
        self.phis, self.scale, self.shape, self.ndim = phis, scale, phis.shape, len(phis.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice, /) -> FloatArray:
        return self.scale * real_array(self.phis[rows], "phis")


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


def _check_action(path: PathLikeStr, phi: FloatArray, stored: FloatArray, action: Action) -> Outcome:
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


def _identity(phi: FloatArray, action: Action, n_chains: int, scale: float = 1.0) -> tuple[float, float]:
    """``<phi dS/dphi>/V``, which is 1 in equilibrium, and its error from the spread of blocks of consecutive updates.

    Parameters
    ----------
    phi : ndarray, shape (n_cfg, *lattice), float64
        Fields as in the file, ordered by update, then by chain.
    action : Action
    n_chains : int
    scale : float
        The action is that of ``scale * phi``.
    """
    field = scale * phi
    axes = tuple(range(1, phi.ndim))
    per_update = -(field * action.force(field)).mean(axis=axes).reshape(-1, n_chains).mean(axis=1)
    blocks = [block.mean() for block in np.array_split(per_update, _N_BLOCKS)]
    return float(np.mean(blocks)), float(np.std(blocks, ddof=1) / np.sqrt(_N_BLOCKS))


def _check_identity(path: PathLikeStr, phi: FloatArray, action: Action, n_chains: int) -> Outcome:
    """Test the Schwinger-Dyson identity; raises `FileError` if it is off by more than the error allows."""
    if len(phi) // n_chains < _N_BLOCKS:
        return (
            "none",
            float("nan"),
            float("nan"),
            "too few configurations to check the convention, and no stored action",
        )
    value, error = _identity(phi, action, n_chains)
    if abs(value - 1) <= _N_SIGMA * error:
        return "schwinger_dyson", value, error, ""
    found = f"{path}: <phi dS/dphi>/V = {value:.4f} +- {error:.4f}, expected 1"
    for words, other, scale in _alternatives(action):
        mean, spread = _identity(phi, other, n_chains, scale)
        if abs(mean - 1) <= 3 * spread:
            raise FileError(f"{found}; {words}")
    raise FileError(
        f"{found}; the fields are not an equilibrium ensemble of {action!r}, check couplings and convention"
    )


@numpy_defaults()
def convert(
    path: PathLikeStr,
    out: PathLikeStr,
    action: Action,
    *,
    lattice: Extents | None = None,
    reader: str | Reader | None = None,
    field_convention: str | None = None,
    check: bool = True,
    n_chains: int = 1,
    thin: int = 1,
    provenance: Provenance | None = None,
    **options: Any,
) -> ConvertReport:
    """Read foreign configurations into an ensemble file.

    Parameters
    ----------
    path, out : path
    action : Action
        The theory that the configurations are of.
    lattice : tuple of int, optional
        Extents that the configurations must have. Without it they are taken from the file, and then the values of S
        or the identity must have shown that the axes are what they seem; an array (L_1, L_2, n_cfg) looks like L_1
        configurations otherwise. The `shape` of a raw file counts as given.
    reader : str or callable, optional
        ``npy``, ``npz``, ``raw``, ``hdf5`` or a registered name; default by suffix.
    field_convention : str, optional
        The fields are normalised as in this convention (a key of `CONVENTIONS`); they are rescaled to the action's.
    check : bool
        False takes the file at its word: for ensembles that are not in equilibrium.
    n_chains, thin : int
        See `save_ensemble`.
    provenance : Provenance, optional
    **options
        For the reader: `dataset`, `action_dataset` (npz, hdf5); `shape`, `dtype`, `offset` (raw).

    Returns
    -------
    ConvertReport

    Raises
    ------
    FileError
        The file cannot be read or is empty, its theory or lattice is another one, or `out` exists.
    UserError
        The reader does not know an option, the shape is wrong, a value is not finite, or nothing shows the lattice.
    """
    refuse_existing(out)
    read = choose_reader(path, reader)
    try:
        foreign = read(path, **options)
    except TypeError as exc:
        raise UserError(f"reader of {path}: {exc}") from exc
    if not isinstance(foreign, Foreign):
        raise UserError(
            f"the reader of {path} returned a {type(foreign).__name__}; the contract"
            " latticediff.ensemble.readers.Reader wants a Foreign(phis, action)"
        )
    shape = tuple(foreign.phis.shape)
    if len(shape) != action.ndim + 1:
        raise UserError(f"{path} has shape {shape}; expected (n_cfg, *lattice) with {action.ndim} lattice axes")
    lattice = options.get("shape") if lattice is None else lattice
    if lattice is not None and shape[1:] != check_shape(lattice, action.ndim):
        wanted = ", ".join(map(str, lattice))
        raise FileError(f"{path} has shape {shape}; expected (n_cfg, {wanted}), one configuration after the other")
    check_shape(shape[1:], action.ndim)
    if not shape[0]:
        raise FileError(f"{path} has shape {shape}: it holds no configuration")
    if np.dtype(foreign.phis.dtype).kind not in "fiu":
        raise UserError(f"{path} holds {foreign.phis.dtype}; expected real numbers")
    scale = 1.0
    if field_convention is not None:
        in_convention = getattr(action, "in_convention", None)
        if in_convention is None:
            raise UserError(f"field_convention is {field_convention!r}; {action!r} has no named conventions")
        _, scale = in_convention(field_convention)
    phis = _Scaled(foreign.phis, scale)
    sample = phis[: max(n_chains, _SAMPLE // n_chains * n_chains)]
    if not np.isfinite(sample).all():
        raise UserError(f"{path} holds a value that is not finite")
    outcome: Outcome = ("none", float("nan"), float("nan"), "not checked, as asked")
    if check and foreign.action is not None:
        if np.ndim(foreign.action) != 1:
            raise FileError(
                f"{path}: the action has shape {np.shape(foreign.action)}; expected one number for each configuration"
            )
        if len(foreign.action) != len(phis):
            raise FileError(f"{path} has {len(phis)} configurations and {len(foreign.action)} values of the action")
        outcome = _check_action(
            path, sample, real_array(foreign.action, f"the action in {path}")[: len(sample)], action
        )
    elif check and len(phis) % n_chains == 0:
        outcome = _check_identity(path, sample, action, n_chains)
    if outcome[0] == "none" and lattice is None:
        raise UserError(
            f"{path} has shape {shape}, and nothing shows that these are {shape[0]} configurations of {shape[1:]}"
            f" ({outcome[3]}); give the lattice, lattice={shape[1:]}"
        )
    algorithm = {"name": "external", "source": str(getattr(path, "name", path)).rsplit("/", 1)[-1]}
    save_ensemble(out, phis, action=action, n_chains=n_chains, thin=thin, algorithm=algorithm, provenance=provenance)
    with Ensemble(out, action) as made:
        return ConvertReport(str(out), made.n_cfg, *outcome)
