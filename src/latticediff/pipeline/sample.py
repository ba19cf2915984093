"""Stage sample: Metropolis chains driven by the network's proposals, into an ensemble file."""

import warnings
from pathlib import Path

import numpy as np

from ..analysis import ess_reverse
from ..ensemble import run_chain, run_directory
from ..ensemble.files import refuse_existing
from ..errors import FileError, UserError
from ..score.model import load_model
from ..streams import Streams
from .device import pick_device
from .generate import provenance_of
from .learned import accept_density, build_kernel, build_proposal
from .log import JsonLog
from .progress import Progress

__all__ = ["sample"]

N_OUTSIDE = 300  # draws that tell the ESS to expect of a model outside of what it was trained on


def sample(card, folder, route, path, *, resume=False, progress=None, log=None, stop=None, outside=False):
    """Run the learned chains of a route into the ensemble file `path`.

    Parameters
    ----------
    card : latticediff.config.Card
    folder : path-like
        Model folder, of the card's action and lattice.
    route : str
        ``ode`` or ``sde``.
    path : path-like
    resume, progress, log, stop
        See `generate`; a resumed run has the bits of an uninterrupted one.
    outside : bool
        Take a model of other couplings or another size too, and say what ESS to expect: chains stay exact.

    Returns
    -------
    Ensemble

    Raises
    ------
    FileError, ModelError
        Something is in the way, or the model is of another theory or lattice, or is damaged.
    UserError
        A knob that does not fit the model or the lattice; a log_q that is no density (`sampling.max_doubling`).
    StopRequested
        `stop` gave a reason; everything done is saved.
    """
    path, progress, log = Path(path), progress or Progress(), log or JsonLog()
    if not resume:
        refuse_existing(path)
        if run_directory(path).is_dir():
            raise FileError(
                f"{run_directory(path)} holds an unfinished run; go on with --resume, or choose another --out"
            )
    device = pick_device(card.sampling.device)
    if outside:
        model = _moved(load_model(folder, device), card, route, progress)
    else:
        model = load_model(folder, device, card.theory(), card.shape)
    kernel, section = build_kernel(card, model, route), getattr(card.sampling, route)
    accept_density(card, model, route)
    streams = Streams(card.run.seed).child(route)

    def start():
        # the first field of a chain is drawn from the model, not from the target; a few updates forget that
        state = kernel.hot_start(section.n_chains, streams)
        state, _ = kernel.advance(state, streams, section.n_warmup, section.n_warmup)
        return state._replace(update=0), streams

    with progress.task(f"{route.upper()} chain", section.n_updates) as task:
        ensemble = run_chain(
            kernel,
            start,
            path,
            section.n_updates,
            thin=1,
            block=max(1, card.sampling.batch // section.n_chains),
            provenance=provenance_of(card, [{"file": Path(folder).name, "fingerprint": model.fingerprint()}]),
            resume=resume,
            progress=lambda done, total, block: task.reach(done, acceptance=float(block.info["accepted"].mean())),
            stop=stop,
        )
    log("sampled", route=route, file=path.name, fingerprint=ensemble.fingerprint())
    return ensemble


def _moved(model, card, route, progress):
    """The model at the card's theory and lattice, with a word on its ESS there if that is outside of its range."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        moved = model.at(card.theory(), card.shape, outside=True)
    if caught:
        draw = build_proposal(card, moved, route).draw(
            N_OUTSIDE, Streams(card.run.seed).child(f"outside-{route}").generator("draw")
        )
        log_weight = -np.asarray(card.theory()(draw.phi)) - draw.log_q
        try:
            ess = ess_reverse(log_weight)
            expected = f"{ess.value:.2g}({ess.error:.1g})"
        except UserError:  # no draw has a weight
            expected = "nan"
        progress.say(f"warning: {caught[0].message}; expected ESS {expected}")
    return moved
