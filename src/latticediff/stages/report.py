"""Stage report: measure every chain of a run folder and write the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from .. import bill
from ..analysis import ess_reverse, mean
from ..build.device import describe_device, pick_device
from ..build.learned import route_named, routes_of
from ..ensemble import Ensemble
from ..errors import UserError
from ..job.log import read_log
from ..model.score_model import ScoreModel
from ..model.storage import load_model, read_card
from ..provenance import version
from ..report import RunResult, write_report
from ..report.figures import draw
from ..untrusted import printable
from .beside import setup_seconds, told
from .chains import chain_result, sampler_name
from .measure import read_series
from .pictures import denoised, histogram_edges, pictures, site_histogram
from .prices import read_prices
from .violations import energy_violations
from .weigh import forward_ess, read_weights, step_doubling

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ..analysis import Estimate
    from ..build.contract import Route
    from ..config import Card
    from ..job.folder import RunFolder
    from ..job.progress import Progress
    from ..report import ChainResult, Film
    from ..types import FloatArray, PathLikeStr
    from .beside import Beside

__all__ = ["report"]

STAGES = ("generate", "sample_hmc", "train", "finetune")
#: stages paid for before the first sample, by the kind of weights that a route takes
PAID = {"flow": ("generate", "train", "finetune"), "score": ("generate", "train")}


def report(folder: RunFolder, progress: Progress, further: Sequence[Beside] = ()) -> dict[str, Path]:
    """Write ``report.json``, figures and ``report.html`` of a run whose other stages are finished.

    Parameters
    ----------
    folder : RunFolder
    progress : Progress
    further : sequence of Beside
        The models of ``sampling.beside``.

    Returns
    -------
    dict of str to Path
        As `latticediff.report.write_report`.

    Raises
    ------
    FileError
        A file of the run is missing or damaged.
    UserError
        As `latticediff.stages.measure.measure_ensemble`.
    """
    card = folder.card
    routes = {name: route_named(name) for name in routes_of(card)}
    stages = (*STAGES, *(f"sample_{name}" for name in routes), *(beside.stages[0] for beside in further))
    seconds = {stage: folder.marker(stage)["seconds"] for stage in stages}
    price = read_prices(folder.prices) if further and folder.is_finished("prices") else {}
    with progress.task("measuring", 1 + len(routes) + len(further)) as task:
        with Ensemble(folder.ensemble) as ensemble:
            checks: dict[str, Any] = {"schwinger_dyson": _pair(mean(read_series(ensemble, ["sd"])["sd"]))}
            checks["exp_minus_delta_h"] = _exp_minus_delta_h(ensemble)
            provenance = ensemble.provenance
        with Ensemble(folder.chain("hmc")) as ensemble:
            before = {"thermalise": _seconds_of(folder, "thermalised"), "search": _seconds_of(folder, "searched")}
            before = {item: spent for item, spent in before.items() if spent or item == "thermalise"}
            edges = histogram_edges(ensemble)
            hmc = chain_result(
                "hmc",
                sampler_name(ensemble.algorithm),
                ensemble,
                configurations=pictures(ensemble),
                site_values=site_histogram(ensemble, edges),
                s_tau=card.analysis.s_tau,
                setup_seconds=before,
                processor_seconds_per_update=price.get("hmc"),
            )
        task.advance()
        chains = [hmc]
        for name, route in routes.items():
            setup = {**_inherited(folder, route), **{key: seconds[key] for key in PAID[route.weights]}}
            files, model = (folder.chain(name), folder.weights(name)), _model_of(folder, route)
            shown: tuple[str, PathLikeStr] | None = ("trained in this run", model) if further else None
            chains.append(_learned(card, name, route.label, files, setup, price.get(name), shown, edges))
            task.advance()
        for beside in further:
            files, setup = folder.beside(beside.key), setup_seconds(beside)
            shown = (printable(beside.model, 200), beside.model)
            chains.append(_learned(card, beside.key, beside.key, files, setup, price.get(beside.key), shown, edges))
            task.advance()
    doubling = next((c.log_weight_step_doubling for c in chains if c.log_weight_step_doubling), {})
    checks |= {f"log_weight_step_doubling_{key}": value for key, value in doubling.items()}
    spent = [folder.marker(path.stem)["seconds"] for path in (folder.path / "stages").glob("*.json")]
    result = RunResult(
        action=card.theory().describe(),
        shape=card.shape,
        chains=tuple(chains),
        title=f"Run {card.run.name!r}",
        seed=card.run.seed,
        seconds={**seconds, "total": float(sum(spent))},
        checks=checks,
        training=tuple(row for row in read_log(folder.log, "training") if row.get("loss") is not None),
        device=describe_device(pick_device(card.training.device)),
        versions={"latticediff": version(), **provenance.libraries},
        card=card.to_toml(),
        film=_film(card, folder, chains),
    )
    records = draw(result)
    with progress.task("drawing", len(records)) as task:
        return write_report(result, folder.path, records, task.advance)


def _film(card: Card, folder: RunFolder, chains: Sequence[ChainResult]) -> Film | None:
    """A draw of the run's own model, from noise to field."""
    model = load_model(folder.model, pick_device(card.sampling.device), card.theory(), card.shape)
    label = next((chain.label for chain in chains if chain.name == "ode"), "the model")
    return denoised(card, model, label) if isinstance(model, ScoreModel) else None


def _seconds_of(folder: RunFolder, event: str) -> float:
    return sum(row["seconds"] for row in read_log(folder.log, event))


def _pair(estimate: Estimate) -> tuple[float, float]:
    return estimate.value, estimate.error


def _exp_minus_delta_h(ensemble: Ensemble) -> tuple[float, float | None]:
    """Value and error of ``<exp(-delta_h)>``; a diverged trajectory (+inf) counts as 0."""
    values = np.exp(-cast("FloatArray", energy_violations(ensemble)))
    try:
        return _pair(mean(values))
    except UserError:  # an exact integrator: constant, hence without error
        return float(values.mean()), None


def _inherited(folder: RunFolder, route: Route) -> dict[str, float]:
    """Seconds that were spent on other models with whose weights this route's network began, and on their data."""
    card = read_card(_model_of(folder, route))
    spent = {"ancestors": bill.inherited_seconds(card), "ancestor_data": bill.inherited_data_seconds(card)}
    return {item: seconds for item, seconds in spent.items() if seconds > 0}


def _model_of(folder: RunFolder, route: Route) -> Path:
    """Folder of the model that a route takes."""
    return folder.score if route.weights == "score" else folder.model


def _learned(
    card: Card,
    name: str,
    label: str,
    files: tuple[Path, Path],
    setup: dict[str, float],
    price: tuple[float, float] | None,
    shown: tuple[str, PathLikeStr] | None,
    edges: FloatArray,
) -> ChainResult:
    """Learned chains, measured: from their files, of chains and of weights; `shown` is whence the model is, and it.

    `edges` are those of the histogram of site values.
    """
    chain, weights_file = files
    weights = read_weights(weights_file)
    with Ensemble(chain) as ensemble:
        # correlated moves record no weights of independent draws
        known = "log_weight" in ensemble.history_names
        proposals = ensemble.history("log_weight").ravel() if known else weights["log_weight_reverse"]
        return chain_result(
            name,
            label,
            ensemble,
            s_tau=card.analysis.s_tau,
            ess_reverse=_pair(ess_reverse(proposals)),
            ess_forward=_pair(forward_ess(weights)),
            log_weight_reverse=proposals,
            log_weight_forward=weights["log_weight"],
            log_weight_step_doubling=step_doubling(weights),
            setup_seconds=setup,
            processor_seconds_per_update=price,
            configurations=pictures(ensemble),
            site_values=site_histogram(ensemble, edges),
            network="" if shown is None else f"{shown[0]}: {told(shown[1], ensemble.algorithm)}",
        )
