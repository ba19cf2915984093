"""Stage inverse_block: fine fields for given coarse ones, weighed, then rethermalised by a frozen kernel."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..analysis import Estimate, observables_table
from ..analysis.weights import ess_reverse
from ..arrays import real_array
from ..atomic import all_at_once, claimed, entries_of, whole
from ..blocking import ConditionalGaussian, HeldHMC, read_blocking
from ..build.classical import tuned_kernel
from ..build.given_propagator import given_propagator
from ..ensemble import Ensemble, save_ensemble
from ..errors import FileError, StopRequested, UserError
from ..host import numpy_defaults
from ..job.progress import Progress
from ..observables import measure_primary
from ..streams import Streams
from .foreign_fields import read_fields
from .generate import provenance_of
from .inverse_blocked import OBSERVED, InverseBlocked
from .measure import read_series

if TYPE_CHECKING:
    from ..action import Action
    from ..config import Card
    from ..types import FloatArray, PathLikeStr
    from .contract import StopCheck

__all__ = ["inverse_block"]

BATCH = 2**20  #: field values drawn at once
TUNED_ON = 64  #: fields that the search for a step size moves


@numpy_defaults()
def inverse_block(
    card: Card,
    coarse: PathLikeStr,
    out: PathLikeStr,
    *,
    kernel: PathLikeStr = "average",
    factor: float = 1.0,
    scale: int = 2,
    softness: float = 0.0,
    propagator: PathLikeStr | None = None,
    copies: int = 1,
    hold: int = 0,
    sweeps: int = 20,
    n_chains: int = 1,
    reference: PathLikeStr | None = None,
    reader: str | None = None,
    progress: Progress | None = None,
    stop: StopCheck | None = None,
    **reading: Any,
) -> InverseBlocked:
    r"""Draw fine fields with their density, then update them and tell how observables reach equilibrium.

    A draw has the weight :math:`e^{-S(\phi)}/q(\phi | \Phi)` for the fine field given the coarse one. Where the file
    has the action of the coarse fields, whose ensemble they must be, it has
    :math:`e^{S_c(\Phi) - S(\phi)}/q(\phi | \Phi)` for the fine theory.

    Parameters
    ----------
    card : Card
        Theory and lattice of the fine fields, seed, and the kernel of ``[hmc]``.
    coarse : path-like
        Fields (n, *coarse lattice).
    out : path-like
        A folder, made new: ``draws.npz``, ``fields.h5`` after the last sweep, ``sweeps.csv``, ``summary.json``.
    kernel, factor, scale
        See `latticediff.blocking.read_blocking`.
    softness : float
        See `latticediff.blocking.ConditionalGaussian`.
    propagator : path-like, optional
        See `latticediff.build.given_propagator.given_propagator`.
    copies : int
        Draws for every coarse field.
    hold : int
        First, updates of `latticediff.blocking.HeldHMC`, which keeps the coarse field; of an exact constraint only.
    sweeps : int
        Updates of the card's kernel; 0: none.
    n_chains : int
        Chains that take turns in the coarse file: errors count the autocorrelation along each.
    reference : path-like, optional
        An ensemble of the fine theory that the sweeps are compared with.
    reader, **reading
        See `latticediff.stages.foreign_fields.read_fields`.
    progress, stop
        See `latticediff.stages.generate.generate`.

    Returns
    -------
    InverseBlocked

    Raises
    ------
    FileError
        A file that cannot be used, or `out` is not empty.
    UserError
        Numbers that cannot be, or a lattice that the blocking does not divide.
    StopRequested
        `stop` gave a reason; nothing is saved.
    """
    progress, action, shape = progress or Progress(), card.theory(), card.shape
    if copies < 1 or min(sweeps, hold) < 0 or n_chains < 1:
        raise UserError(
            f"copies = {copies}, hold = {hold}, sweeps = {sweeps}, n_chains = {n_chains}; expected at least 1, 0, 0, 1"
        )
    if hold and softness:
        raise UserError(f"hold = {hold} with softness = {softness}; a coarse field that is held is held exactly")
    blocking = read_blocking(kernel, len(shape), factor, scale)
    found = read_fields(coarse, blocking.coarse_shape(shape), "the coarse fields", reader, **reading)
    n = len(found.phis)
    if n < 2 * n_chains or n % n_chains:
        raise UserError(f"{coarse} holds {n} fields; expected at least two for each of {n_chains} chains, and as many")
    if entries_of(out):
        raise FileError(f"{out} is not empty; choose another --out")
    expected = None if reference is None else _reference(reference, action, shape)
    G, origin = given_propagator(propagator, action, shape)
    given = ConditionalGaussian(G, blocking, softness)
    streams = Streams(card.run.seed).child("inverse-block")
    arrays = _draw(given, found, action, copies, streams, coarse)
    phi = arrays["phi"]
    table = functools.partial(_table, action=action, shape=shape, n_chains=n_chains, copies=copies)
    rows, algorithm = [table(phi)], {"name": "conditional_gaussian", **blocking.describe(), "softness": softness}

    def sweep(moving: Any, name: str, phi: FloatArray, n_updates: int) -> FloatArray:
        """Rows of `n_updates` updates; the fields after the last."""
        state = moving.start(phi)
        with progress.task(name, n_updates) as task:
            for done in range(1, n_updates + 1):
                state, block = moving.advance(state, streams.child(name), 1)
                rows.append(table(block.phi[0]))
                task.reach(done, acceptance=float(block.info["accepted"].mean()))
                if stop is not None and (reason := stop()):
                    raise StopRequested(f"{reason} while sweeping; nothing is saved, run again", reason.exit_code)
        return state.phi

    # a search moves copies; the kernel that it freezes is the same for every sweep
    if hold:
        holding = HeldHMC.tuned(action, blocking, phi[:TUNED_ON].copy(), streams.child("tune-hold"))
        phi, algorithm = sweep(holding, "hold", phi, hold), holding.describe()
    if sweeps:
        freed, _ = tuned_kernel(card, phi[:TUNED_ON].copy(), streams)
        phi, algorithm = sweep(freed, "sweeps", phi, sweeps), freed.describe()
    made = InverseBlocked(
        source=Path(coarse).name,
        action=action,
        shape=shape,
        n=n,
        copies=copies,
        kernel=str(kernel),
        blocking=blocking.describe(),
        softness=softness,
        origin=origin,
        ess=_ess_given(arrays["log_weight"].reshape(n, copies)),
        ess_whole=None if found.action is None else ess_reverse(arrays["log_weight_whole"]),
        rows=rows,
        held=hold,
        reference=expected,
    )
    with claimed(out) as folder, all_at_once(folder, "summary.json") as place:
        with whole(place / "draws.npz") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # its annotations take a flag among them
        provenance = provenance_of(card)
        save_ensemble(
            place / "fields.h5", phi, action=action, n_chains=n_chains * copies, algorithm=algorithm,
            provenance=provenance,
        )  # fmt: skip
        (place / "sweeps.csv").write_text(made.to_csv(), encoding="utf-8")
        (place / "summary.json").write_text(made.to_json(), encoding="utf-8")
    return made


def _draw(
    given: ConditionalGaussian, found: Any, action: Action, copies: int, streams: Streams, path: PathLikeStr
) -> dict[str, FloatArray]:
    """Draws of all coarse fields, `copies` of each after one another, with densities and weights."""
    n, rng = len(found.phis), streams.generator("draw")
    arrays: dict[str, FloatArray] = {name: np.empty(n * copies) for name in ("action", "log_q", "log_weight")}
    arrays["phi"] = np.empty((n * copies, *given.shape))
    step = max(1, BATCH // (copies * int(np.prod(given.shape))))
    for start in range(0, n, step):
        rows = real_array(found.phis[start : start + step], f"{path}: the fields", finite=True, order="C")
        rows, part = np.repeat(rows, copies, axis=0), slice(start * copies, (start + len(rows)) * copies)
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused below
            phi, log_q = given.draw(rows, rng)
            S = np.asarray(action(phi))
        if not np.isfinite(S).all():
            raise UserError(f"{path}: fields up to {np.abs(rows).max():.3g}, whose fine fields have no finite action")
        arrays["phi"][part], arrays["action"][part], arrays["log_q"][part] = phi, S, log_q
        arrays["log_weight"][part] = given.log_constraint(phi, rows) - S - log_q
    if found.action is not None:
        arrays["log_weight_whole"] = arrays["log_weight"] + np.repeat(found.action, copies)
    return arrays


def _table(phi: FloatArray, action: Action, shape: Any, n_chains: int, copies: int) -> dict[str, Estimate]:
    series = measure_primary(phi.reshape(-1, n_chains * copies, *shape), action)
    # copies of one coarse field know of each other: their mean is one entry
    series = {name: values.reshape(n_chains, copies, -1).mean(axis=1) for name, values in series.items()}
    return observables_table(series, action, shape, OBSERVED)


def _reference(path: PathLikeStr, action: Action, shape: Any) -> dict[str, Estimate]:
    with Ensemble(path) as ensemble:
        ensemble.expect(action, shape)
        return observables_table(read_series(ensemble), action, shape, OBSERVED)


def _ess_given(log_weight: FloatArray) -> float | None:
    """Mean over coarse fields of the effective share of their draws; None if each has one."""
    copies = log_weight.shape[1]
    if copies < 2:
        return None
    w = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
    return float((w.sum(axis=1) ** 2 / (copies * (w**2).sum(axis=1))).mean())
