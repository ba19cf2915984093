r"""Foreign configurations in; a wrong convention is caught at the door, by `latticediff.ensemble.convert_checks`."""

from typing import Any, NamedTuple

import numpy as np

from ..action import Action
from ..arrays import real_array
from ..atomic import refuse_existing
from ..errors import FileError, UserError
from ..host import numpy_defaults
from ..lattice import check_shape
from ..provenance import Provenance
from ..types import Extents, FloatArray, PathLikeStr
from .convert_checks import Outcome, are_few, check_action, check_identity
from .foreign import ask_reader, checked_action
from .interleaving import interleaving_warning
from .reader import Ensemble
from .readers import Reader, choose_reader
from .tables import Numbers
from .writer import save_ensemble

__all__ = ["ConvertReport", "convert"]

_SAMPLE = 20_000


class ConvertReport(NamedTuple):
    """What `convert` did and how it knows that the theory is right."""

    path: str
    n_cfg: int
    check: str  #: "action", "schwinger_dyson" or "none"
    value: float  #: largest ``|S - S_file|`` per site, or the identity's mean
    error: float  #: error of the identity's mean; 0 for the action
    note: str  #: a constant offset of S, how weak the check was, or why nothing was checked
    identity: tuple[float, float] = (float("nan"), float("nan"))  #: <phi dS/dphi>/V and its error; NaN if not checked
    warning: str = ""  #: what the autocorrelation says of the number of chains; empty if it fits


class _Scaled:
    """Fields times a number, converted to float64 as they are read."""

    def __init__(self, phis: Numbers, scale: float) -> None:
        self.phis, self.scale, self.shape, self.ndim = phis, scale, phis.shape, len(phis.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice, /) -> FloatArray:
        return self.scale * real_array(self.phis[rows], "phis")


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
        False takes the file at its word, S included: for ensembles that are not in equilibrium.
    n_chains, thin : int
        See `save_ensemble`.
    provenance : Provenance, optional
    **options
        For the reader: `axis` (npy, npz, hdf5); `dataset`, `action_dataset` (npz, hdf5); `shape`, `dtype`, `offset`
        (raw).

    Returns
    -------
    ConvertReport

    Raises
    ------
    FileError
        The file cannot be read or is empty, its theory or lattice is another one, its fields are not in equilibrium,
        or `out` exists.
    UserError
        The reader does not know an option, the shape is wrong, a value is not finite, or nothing shows the lattice.
    """
    refuse_existing(out)
    read = choose_reader(path, reader)
    foreign = ask_reader(read, path, **options)
    shape = tuple(foreign.phis.shape)
    if len(shape) != action.ndim + 1:
        raise UserError(f"{path} has shape {shape}; expected (n_cfg, *lattice) with {action.ndim} lattice axes")
    lattice = options.get("shape") if lattice is None else lattice
    if lattice is not None and shape[1:] != check_shape(lattice, action.ndim):
        wanted = ", ".join(map(str, lattice))
        moved = f", its axis {options['axis']} put first," if options.get("axis") not in (None, 0, "0") else ""
        hint = "; if they lie along the last axis, axis='last' (--axis last)" if shape[:-1] == tuple(lattice) else ""
        raise FileError(
            f"{path}{moved} has shape {shape}; expected (n_cfg, {wanted}), one configuration after the other{hint}"
        )
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
    identity, warning = (float("nan"), float("nan")), ""
    if check and (stored := checked_action(path, foreign)) is not None:
        outcome = check_action(path, sample, stored[: len(sample)], action)
    if lattice is None and outcome[0] == "none" and (not check or are_few(len(sample), n_chains)):
        why = "too few of them to say" if check else outcome[3]
        raise UserError(
            f"{path} has shape {shape}, and nothing shows that these are {shape[0]} configurations of {shape[1:]}"
            f" ({why}); give the lattice, lattice={shape[1:]}"
        )
    if check and len(phis) % n_chains == 0:
        found = check_identity(path, sample, action, n_chains, outcome[0] == "action")
        identity, warning = found[1:3], interleaving_warning(sample, n_chains)
        outcome = found if outcome[0] == "none" else outcome
    algorithm = {"name": "external", "source": str(getattr(path, "name", path)).rsplit("/", 1)[-1]}
    save_ensemble(out, phis, action=action, n_chains=n_chains, thin=thin, algorithm=algorithm, provenance=provenance)
    with Ensemble(out, action) as made:
        return ConvertReport(str(out), made.n_cfg, *outcome, identity, warning)
