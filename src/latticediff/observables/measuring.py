r"""Measuring: series of observables, one number per configuration, from fields in bounded memory.

What there is, stands in `table`; everything else is derived from the means of these series.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..action import Action
from ..arrays import real_array
from ..asking import asked
from ..errors import UserError
from ..types import FloatArray
from .contract import Observable
from .table import OBSERVABLES, observable

__all__ = ["complete", "measure_array", "measure_primary"]

Observables = Iterable[str] | Mapping[str, Any]  #: names, or functions (or names) under names of choice
Batches = NDArray[Any] | Iterable[NDArray[Any]]  #: fields (n, n_chains, *lattice) or (n, *lattice), or several such

CHUNK_SITES = 2**16  #: sites handed to the observables at once, so that temporaries stay in the cache


def _resolve(observables: Observables | None) -> dict[str, Observable]:
    """dict of name -> `Observable` from None, names, or a dict with the caller's own functions."""
    if observables is None:
        return {name: entry for name, entry in OBSERVABLES.items() if not entry.derived}
    given = observables.items() if isinstance(observables, Mapping) else ((name, name) for name in observables)
    found = {}
    for name, value in given:
        entry = value if isinstance(value, Observable) else Observable(value) if callable(value) else observable(value)
        if entry.derived:
            raise UserError(
                f"observable {name!r} is derived from means; measure {', '.join(entry.needs)} and take it from"
                " latticediff.analysis.observables_table"
            )
        found[name] = entry
    return found


def _look_up_needs(entry: Observable, needed: dict[str, Observable], path: tuple[str, ...]) -> None:
    """Put all registered observables that one follows from into `needed`: looked up once, not for every chunk."""
    for name in entry.needs:
        if name in path:
            raise UserError(f"observable {name!r} needs itself: {' needs '.join((*path, name))}")
        if name not in needed:
            found = observable(name)
            if found.derived:
                raise UserError(f"observable {path[-1]!r} needs {name!r}, which is derived from means")
            _look_up_needs(found, needed, (*path, name))
            needed[name] = found


class _Chunk(NamedTuple):
    """Some of the fields, read-only, and where they stand: what observables are evaluated on at once."""

    phis: FloatArray  #: (n, *lattice)
    first: int  #: number of the first of them among all fields measured, chains running fastest
    n_chains: int

    def where(self, row: int) -> str:
        """Which configuration a row is, in words."""
        entry, chain = divmod(self.first + row, self.n_chains)
        return f"entry {entry} of chain {chain}"


def _evaluate(
    name: str,
    entry: Observable,
    needed: Mapping[str, Observable],
    chunk: _Chunk,
    action: Action,
    known: dict[Observable, FloatArray],
) -> FloatArray:
    """Values of one chunk, (n,), read-only; what others need of it too is kept in `known`."""
    if entry not in known:
        if entry.needs:
            given = [_evaluate(need, needed[need], needed, chunk, action, known) for need in entry.needs]
            values = _called(name, entry.function, *given)
        else:
            values = _called(name, entry.function, chunk.phis, action)
        values = real_array(values, f"observable {name!r}", booleans=True)
        if values.shape != (len(chunk.phis),):
            raise UserError(f"observable {name!r} has shape {values.shape}; expected ({len(chunk.phis)},)")
        _require_finite(f"observable {name!r}", values, chunk)
        known[entry] = _read_only(values)
    return known[entry]


def _called(name: str, function: Callable[..., Any], *given: Any) -> Any:
    """What an observable gives; that it wrote into the fields, which are read-only, is said in one line."""

    def call() -> Any:
        try:
            return function(*given)
        except ValueError as exc:
            if "read-only" not in str(exc):
                raise
            raise UserError(
                f"observable {name!r} writes into the arrays that it is given ({exc}), which other observables read"
                " too; let it work on a copy"
            ) from exc

    return asked(function, "observable", f"{name!r} of {len(given[0])} fields", call)


def _require_finite(called: str, values: NDArray[Any], chunk: _Chunk) -> None:
    """Refuse a NaN or an infinity, (n, ...): one of them makes every mean over the ensemble undefined."""
    sound = np.isfinite(values)
    if not sound.all():
        row = int(np.argwhere(~sound)[0, 0])
        got = values[row][~sound[row]].flat[0] if values.ndim > 1 else values[row]
        raise UserError(
            f"{called} is {got} at {chunk.where(row)}; expected a finite number for every configuration: find out"
            " what its function divides by or overflows at"
        )


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    """A view of `array` that cannot be written to; `array` itself stays as it is."""
    view = array.view()
    view.flags.writeable = False
    return view


def complete(series: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Add to a table of series all built-in ones that follow from them, configuration by configuration.

    Parameters
    ----------
    series : dict of str to ndarray, all of one shape, float64

    Returns
    -------
    dict of str to ndarray, of the same shape
        A new dict: first `series`, then for instance ``abs_m``, ``m2`` and ``m4`` where there is ``m``.
    """
    found = dict(series)
    for name, entry in OBSERVABLES.items():
        if name not in found and entry.needs and not entry.derived and set(entry.needs) <= set(found):
            found[name] = np.asarray(entry(*(found[need] for need in entry.needs)))
    return found


def measure_primary(phis: Batches, action: Action, observables: Observables | None = None) -> dict[str, FloatArray]:
    """Series of primary observables, chain by chain; one batch in memory at a time.

    Parameters
    ----------
    phis : ndarray or iterable of ndarray
        Configurations in Monte Carlo order, ``(n, n_chains, *lattice)`` as in `Block.phi`, or
        ``(n, *lattice)`` for one chain. An iterable of such batches is read once, so a generator
        over a running chain, or over a file larger than memory, will do.
    action : Action
    observables : iterable of str or dict of str to callable, optional
        Names, or own functions ``f(phis (n, *lattice), action) -> (n,)`` under a name of choice.
        All built-in ones by default.

    Returns
    -------
    dict of str to ndarray, shape (n_chains, n), float64

    Raises
    ------
    UserError
        No configuration, a batch whose shape does not fit the action or the batches before it, a
        field that is not finite, or an observable that returns another shape, a NaN or an infinity, or
        writes into the fields, which it gets read-only.
    """
    wanted = _resolve(observables)
    needed: dict[str, Observable] = {}
    for name, entry in wanted.items():
        _look_up_needs(entry, needed, (name,))
    columns: dict[str, list[FloatArray]] = {name: [] for name in wanted}
    n_before = 0
    for flat, n_chains in _batches(phis, action):
        rows = {name: np.empty(len(flat)) for name in wanted}
        step = max(1, CHUNK_SITES // flat[0].size)
        for start in range(0, len(flat), step):
            chunk = _Chunk(_read_only(flat[start : start + step]), n_before + start, n_chains)
            known: dict[Observable, FloatArray] = {}
            for name, entry in wanted.items():
                rows[name][start : start + step] = _evaluate(name, entry, needed, chunk, action, known)
        n_before += len(flat)
        for name, values in rows.items():
            columns[name].append(values.reshape(-1, n_chains).T)
    return {name: np.concatenate(parts, axis=1) for name, parts in columns.items()}


def measure_array(phis: Batches, action: Action, function: Callable[[FloatArray], ArrayLike]) -> FloatArray:
    """Series of an observable that is an array, such as `timeslice_correlator`.

    Parameters
    ----------
    phis, action
        As in `measure_primary`.
    function : callable
        ``f(phis (n, *lattice)) -> (n, ...)``; no action, close over it if it is needed.

    Returns
    -------
    ndarray, shape (n_chains, n, ...), float64 or complex128
        Complex where the observable is, as `time_slices` at a momentum: ``np.abs(series) ** 2`` and its like are
        right. What `analysis` averages is real: give it ``.real``, ``.imag`` or a modulus.

    Raises
    ------
    UserError
        As `measure_primary`.
    """
    parts: list[NDArray[Any]] = []
    n_before = 0
    name = getattr(function, "__name__", type(function).__name__)
    for flat, n_chains in _batches(phis, action):
        chunk = _Chunk(_read_only(flat), n_before, n_chains)
        values = _called(name, function, chunk.phis)
        if np.iscomplexobj(values):  # part by part through the door
            values = real_array(np.real(values), "observable") + 1j * real_array(np.imag(values), "observable")
        else:
            values = real_array(values, "observable", booleans=True)
        if values.ndim < 2 or len(values) != len(flat):
            raise UserError(f"observable has shape {values.shape}; expected ({len(flat)}, ...)")
        _require_finite(f"observable {name!r}", values, chunk)
        n_before += len(flat)
        parts.append(np.moveaxis(values.reshape(-1, n_chains, *values.shape[1:]), 1, 0))
    return np.concatenate(parts, axis=1)


def _batches(phis: Batches, action: Action) -> Iterator[tuple[FloatArray, int]]:
    """Checked batches as (n * n_chains, *lattice), chains running fastest, with n_chains."""
    expected: tuple[int, ...] | None = None
    for batch in [phis] if isinstance(phis, np.ndarray) else phis:
        batch = _with_chain_axis(real_array(batch, "phis"), action.ndim)
        if expected not in (None, batch.shape[1:]):
            raise UserError(f"a batch has shape (n, {batch.shape[1:]}); the batches before it have {expected}")
        expected = batch.shape[1:]
        if not np.isfinite(batch).all():
            raise UserError("phis has a value that is not finite; the ensemble is damaged or its sampler diverged")
        if len(batch):  # a block shorter than its thinning keeps nothing
            yield batch.reshape(-1, *batch.shape[2:]), batch.shape[1]
    if expected is None:
        raise UserError("there is no configuration to measure")


def _with_chain_axis(batch: FloatArray, ndim: int) -> FloatArray:
    if batch.ndim == ndim + 1:
        return batch[:, None]
    if batch.ndim == ndim + 2:
        return batch
    raise UserError(
        f"phis has shape {batch.shape}; expected (n, n_chains, *lattice) or (n, *lattice) with {ndim} lattice axes"
    )
