"""Stage weigh, without a card: the density of a model at fields of any file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ..arrays import real_array
from ..atomic import refuse_existing, whole
from ..errors import StopRequested
from ..hosts import load
from ..job.progress import Progress
from ..streams import Streams
from .foreign_fields import read_fields, require_theory

if TYPE_CHECKING:
    from ..types import FloatArray, PathLikeStr
    from .contract import StopCheck

__all__ = ["weigh_fields"]

VALUES = 2**20  #: field values weighed at once


def weigh_fields(
    name: PathLikeStr,
    fields: PathLikeStr,
    path: PathLikeStr,
    *,
    route: str = "ode",
    reader: str | None = None,
    seed: int = 1,
    device: str = "cpu",
    options: dict[str, Any] | None = None,
    progress: Progress | None = None,
    stop: StopCheck | None = None,
    **reading: Any,
) -> dict[str, FloatArray]:
    """Weigh fields of an HDF5, npy, npz or raw file; writes an ``.npz`` and returns its arrays.

    Parameters
    ----------
    name : path-like
        Shipped model or folder.
    fields : path-like
        Fields (n, *lattice) of the model's lattice, in its convention.
    path : path-like
        Must not exist.
    route : str
    reader : str, optional
        Name of a reader; by default the suffix of `fields` decides.
    seed : int
        Of the hidden paths of a path proposal.
    device, options
        See `latticediff.stages.propose.propose`.
    progress, stop
        See `latticediff.stages.generate.generate`.
    **reading
        Of the reader (``dataset``, ``dtype``, ``offset``); None means not given. Raw files take the model's lattice.

    Returns
    -------
    dict of str to ndarray, shape (n,), float64
        ``log_q``, ``action`` and ``log_weight``; NaN for fields to which no draw leads.

    Raises
    ------
    FileError, ModelError, UserError
        A file, model or number that cannot be used; values of S in the file that are not those of the model's theory.
    StopRequested
        `stop` gave a reason; nothing is saved.
    """
    progress = progress or Progress()
    refuse_existing(path)
    model = load(name, device=device)
    proposal = model.proposal(route, **(options or {}))
    found = read_fields(fields, proposal.shape, model.name, reader, **reading)
    n = len(found.phis)
    rng = Streams(seed).child("weigh").generator("path")
    arrays = {key: np.empty(n) for key in ("log_q", "action", "log_weight")}
    step = max(256, VALUES // int(np.prod(proposal.shape)))
    with progress.task(f"weighing, {route}", n) as task:
        for start in range(0, n, step):
            part = slice(start, min(start + step, n))
            phi = real_array(found.phis[part], f"{fields}: the fields", finite=True, order="C")
            arrays["action"][part] = proposal.action(phi)
            if found.action is not None:
                require_theory(fields, found.action[part], arrays["action"][part], model.action, phi[0].size)
            arrays["log_q"][part], arrays["log_weight"][part] = proposal.weigh(phi, rng)
            task.reach(part.stop)
            if stop is not None and (reason := stop()):
                raise StopRequested(f"{reason} while weighing; nothing is saved, run again", reason.exit_code)
    with whole(Path(path)) as file:
        np.savez(file, **cast(dict[str, Any], arrays))
    return arrays
