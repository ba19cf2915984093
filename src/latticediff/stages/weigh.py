"""Stage weigh: weights of configurations that the model never saw, and the error that its integrator makes in them.

Reverse ESS shows only where the model puts its draws; forward ESS, on held-out HMC data, shows what
it misses. ESS does not show the integration error of a density, so that is measured by doubling the steps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ..analysis import ess_forward, ess_reverse, integration_bias
from ..analysis.weights import largest_above_mean
from ..atomic import whole
from ..build.configurations import require_finite
from ..build.learned import build_proposal
from ..build.model import model_for
from ..ensemble import Ensemble
from ..ensemble.readers import read_arrays
from ..errors import StopRequested
from ..host import torch_defaults
from ..job.progress import Progress
from ..metropolis import doubling_error
from ..metropolis.asking import ask_draw, ask_weigh
from ..metropolis.checks import require_density, sound_rows
from ..metropolis.contract import Integrated
from ..streams import Streams
from ..training import TrainingData
from ..training.data import chain_numbers, evenly, spread
from ..untrusted import printable

if TYPE_CHECKING:
    from ..analysis import Estimate
    from ..config import Card
    from ..metropolis.contract import Proposal
    from ..types import Description, FloatArray, PathLikeStr
    from .contract import StopCheck

Arrays = dict[str, NDArray[Any]]  #: what `weigh` writes

__all__ = ["Weighing", "forward_ess", "read_weights", "step_doubling", "weigh"]

N_REVERSE = 2000  # fresh draws weighed where the chain's own history has no weights of independent draws
N_DOUBLING = 300  # configurations, and draws, whose density is computed with twice the steps too


@torch_defaults()
def weigh(
    card: Card,
    ensemble_path: PathLikeStr,
    folder: PathLikeStr,
    route: str,
    path: PathLikeStr,
    *,
    progress: Progress | None = None,
    stop: StopCheck | None = None,
    outside: bool = False,
    all_chains: bool = False,
    name: str | None = None,
    streams: Streams | None = None,
) -> Arrays:
    """Weigh configurations under a route's proposal; writes an ``.npz`` file and returns its arrays.

    Parameters
    ----------
    card : latticediff.config.Card
    ensemble_path : path-like
        Of the card's theory and lattice. Those chains are weighed that training would hold out, at most
        ``sampling.n_forward`` configurations.
    folder : path-like
        Model folder, or name of a shipped model.
    route : str
        ``ode``, ``sde`` or an installed one.
    path : path-like
        The file to write; replaced if it exists.
    progress, stop
        See `latticediff.stages.generate.generate`.
    outside : bool
        Take a model of other couplings or another size too; see `latticediff.build.model.model_for`.
    all_chains : bool
        Weigh all chains, for an ensemble that the model was not trained on.
    name : str, optional
        Of the chains that this is about, in progress; by default that of the route.
    streams : Streams, optional
        By default those of the card's seed and the route.

    Returns
    -------
    dict of str to ndarray
        ``log_weight`` (n,), float64, and ``chain`` (n,), int64, the number of the chain that each configuration is of.
        For the ODE, ``doubling`` (n',) and ``doubling_draws`` (n'',), float64: the signed change of log_weight of
        configurations and of draws under twice the steps. For kernels whose history does not hold it,
        ``log_weight_reverse`` of fresh draws, float64.

    Raises
    ------
    FileError, ModelError
        Ensemble or model are of another theory or lattice, or damaged.
    UserError
        A configuration whose density the proposal cannot compute.
    StopRequested
        `stop` gave a reason; nothing is saved.
    """
    progress, action = progress or Progress(), card.theory()
    with Ensemble(ensemble_path) as ensemble:
        ensemble.expect(action, card.shape)
        phis, n_rows, n_chains = _chosen(ensemble, card, all_chains)
    model = model_for(card, folder, route, outside, progress)
    proposal = build_proposal(card, model, route)
    streams = streams or Streams(card.run.seed).child(f"weigh-{route}")
    rng = streams.generator("path")
    log_weight = np.empty(len(phis))
    with progress.task(f"weighing, {name or route.upper()}", len(phis)) as task:
        for start in range(0, len(phis), card.sampling.batch):
            part = slice(start, start + card.sampling.batch)
            log_weight[part] = -action(phis[part]) - require_density(ask_weigh(proposal, phis[part], rng))
            task.reach(min(part.stop, len(phis)))
            if stop is not None and (reason := stop()):
                raise StopRequested(
                    f"{reason} while weighing, of which nothing is saved before its end; run the same command again"
                    " (latticediff run: with --resume)",
                    reason.exit_code,
                )
    arrays: Arrays = {"log_weight": log_weight, "chain": chain_numbers(len(phis), n_rows, n_chains)}
    density: Proposal = getattr(proposal, "inner", proposal)  # annealed paths are random; the density below them is not
    if isinstance(density, Integrated):
        some = phis[spread(len(phis), N_DOUBLING)]
        draw = ask_draw(density, N_DOUBLING, streams.generator("doubling"))
        rows = sound_rows(draw)
        # neither is None: the density is integrated
        arrays["doubling"] = cast("FloatArray", doubling_error(density, some))
        arrays["doubling_draws"] = cast("FloatArray", doubling_error(density, draw.phi[rows], draw.log_q[rows]))
    if card.sampling.kernel.move != "independence":
        draw = ask_draw(proposal, min(N_REVERSE, card.sampling.n_forward), rng)
        arrays["log_weight_reverse"] = -action(draw.phi) - draw.log_q
    with whole(path) as file:
        np.savez(file, **cast(dict[str, Any], arrays))  # NumPy takes a bool beside them
    return arrays


def _chosen(ensemble: Ensemble, card: Card, all_chains: bool) -> tuple[FloatArray, int, int]:
    """Configurations `spread` over the file, which alone are in memory; of how many, and of how many chains."""
    n = card.sampling.n_forward
    if all_chains:
        chosen = ensemble.take(spread(ensemble.n_cfg, n))
        return require_finite(chosen, ensemble.path), ensemble.n_cfg, ensemble.n_chains
    data = TrainingData(ensemble, held_out=card.training.held_out, where="stream")
    return evenly(data.held_out, n), len(data.held_out), data.held_out_chains


def step_doubling(arrays: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """The change of log_weight under doubled steps, in a few numbers.

    Parameters
    ----------
    arrays : dict of str to ndarray
        What `weigh` wrote.

    Returns
    -------
    dict of str to float
        ``median`` and ``max`` of the size of the change on configurations; its ``spread`` and ``bias_bound`` there, and
        on draws ``draws_spread`` and ``draws_bias_bound``, which files of earlier versions do not hold. Empty where
        nothing is integrated.
    """
    if "doubling" not in arrays:
        return {}
    change = arrays["doubling"]
    found = {"median": float(np.median(np.abs(change))), "max": float(np.abs(change).max())}
    for where, prefix in (("doubling", ""), ("doubling_draws", "draws_")):
        change = arrays.get(where, np.empty(0))
        if np.isfinite(change).all() and len(change) > 1:
            bias = integration_bias(change)
            found |= {f"{prefix}spread": bias.std, f"{prefix}bias_bound": bias.bias_bound}
    return found


def read_weights(path: PathLikeStr) -> Arrays:
    """Read the arrays that `weigh` wrote.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    dict of str to ndarray
        As `weigh` returns them; a file of an earlier version may lack some.

    Raises
    ------
    FileError
        The file cannot be read.
    """
    return read_arrays(path)


def forward_ess(arrays: Mapping[str, NDArray[Any]]) -> Estimate:
    """Forward ESS of the configurations that `weigh` weighed.

    Parameters
    ----------
    arrays : dict of str to ndarray
        What `weigh` wrote.

    Returns
    -------
    Estimate
        Its error comes from blocks within each chain; a file of an earlier version does not say which chain a
        configuration is of, and counts as one chain.
    """
    log_weight = arrays["log_weight"]
    if "chain" not in arrays:
        return ess_forward(log_weight)
    return ess_forward([log_weight[arrays["chain"] == number] for number in np.unique(arrays["chain"])])


@dataclass(frozen=True)
class Weighing:
    """The arrays of `weigh`, summed up for people and programs."""

    source: str
    route: str
    arrays: Arrays

    def to_dict(self) -> Description:
        """JSON-able; null for what is not known."""
        forward, drawn = self.arrays["log_weight"], self.arrays.get("log_weight_reverse")
        largest = largest_above_mean(forward)
        return {
            "source": self.source,
            "route": self.route,
            "n": len(forward),
            "ess_forward": forward_ess(self.arrays).pair(),
            "ess_reverse": None if drawn is None else ess_reverse(drawn).pair(),
            "largest_forward": largest if np.isfinite(largest) else None,
            "step_doubling": step_doubling(self.arrays) or None,
        }

    def to_json(self) -> str:
        """`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    def to_text(self) -> str:
        """A table for people."""
        forward, doubling = self.arrays["log_weight"], step_doubling(self.arrays)
        lines = [f"{printable(self.source)}: {len(forward)} configurations weighed by the {self.route} route"]
        lines.append(f"  {'ESS forward':26} {forward_ess(self.arrays)}")
        if "log_weight_reverse" in self.arrays:
            lines.append(f"  {'ESS of fresh draws':26} {ess_reverse(self.arrays['log_weight_reverse'])}")
        lines.append(f"  {'largest above the mean':26} {largest_above_mean(forward):.3g}")
        if doubling:
            found = ", ".join(f"{name.replace('_', ' ')} {value:.1e}" for name, value in doubling.items())
            lines.append(f"  {'change under doubled steps':26} {found}")
        return "\n".join(lines)
