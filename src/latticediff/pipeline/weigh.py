"""Stage weigh: what the model gives to configurations that it never saw, and what its integrator hides.

Reverse ESS shows only where the model puts its draws; forward ESS, on held-out HMC data, shows what
it misses. ESS does not show the integration error of a density, so that is measured by doubling the steps.
"""

import os
from pathlib import Path

import numpy as np

from ..ensemble import Ensemble
from ..ensemble.files import disk_error
from ..errors import StopRequested
from ..score.model import load_model
from ..streams import Streams
from ..training import TrainingData
from .device import pick_device
from .learned import build_proposal
from .progress import Progress

__all__ = ["read_weights", "weigh"]

N_REVERSE = 2000  # fresh draws weighed where the chain's own history has no weights of independent draws
N_DOUBLING = 1000  # configurations whose density is computed with twice the steps too


def weigh(card, ensemble_path, folder, route, path, *, progress=None, stop=None):
    """Weigh held-out configurations under a route's proposal; writes ``.npz`` and returns its arrays.

    Parameters
    ----------
    card : latticediff.config.Card
    ensemble_path : path-like
        The ensemble trained on: its held-out chains are weighed, at most ``sampling.n_forward`` configurations.
    folder : path-like
        Model folder.
    route : str
    path : path-like
        Replaced if it exists.

    Returns
    -------
    dict of str to ndarray
        ``log_weight`` (n,), and for the ODE ``doubling`` (n',): the change of log_weight under
        twice the steps, signed. ``log_weight_reverse`` of fresh draws, for kernels whose history does not hold it.
    """
    progress, action = progress or Progress(), card.theory()
    model = load_model(folder, pick_device(card.sampling.device), action, card.shape)
    proposal = build_proposal(card, model, route)
    rng = Streams(card.run.seed).child(f"weigh-{route}").generator("path")
    with Ensemble(ensemble_path) as ensemble:
        phis = TrainingData(ensemble.phis(), ensemble.n_chains, card.training.held_out).held_out
    # every k-th, so that all of the Monte Carlo time is covered
    phis = phis[:: max(1, len(phis) // card.sampling.n_forward)][: card.sampling.n_forward].double().numpy()
    log_weight = np.empty(len(phis))
    with progress.task(f"weighing, {route.upper()}", len(phis)) as task:
        for start in range(0, len(phis), card.sampling.batch):
            part = slice(start, start + card.sampling.batch)
            log_weight[part] = -action(phis[part]) - proposal.weigh(phis[part], rng)
            task.reach(min(part.stop, len(phis)))
            if stop is not None and (reason := stop()):
                raise StopRequested(f"{reason}; run the same command with --resume to go on", reason.exit_code)
    arrays = {"log_weight": log_weight}
    density = getattr(proposal, "inner", proposal)  # annealed paths are random; the density below them is not
    if hasattr(density, "doubled"):
        some = phis[:N_DOUBLING]
        coarse = log_weight[: len(some)] if density is proposal else -action(some) - density.weigh(some, rng)
        arrays["doubling"] = -action(some) - density.doubled().weigh(some, rng) - coarse
    if card.sampling.kernel.move != "independence":
        draw = proposal.draw(min(N_REVERSE, card.sampling.n_forward), rng)
        arrays["log_weight_reverse"] = -action(draw.phi) - draw.log_q
    _save(Path(path), arrays)
    return arrays


def _save(path, arrays):
    part = path.with_name(path.name + ".part")
    try:
        with open(part, "wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as exc:
        part.unlink(missing_ok=True)
        raise disk_error(exc, path) from exc


def read_weights(path):
    """Arrays that `weigh` wrote."""
    with np.load(path) as file:
        return {name: file[name] for name in file.files}
