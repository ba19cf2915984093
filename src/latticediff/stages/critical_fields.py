"""Fields of one coupling and size of a critical point, draws and chains: read, or made where they are not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..atomic import sealed_text
from ..cluster import Cluster
from ..composite import Sequence
from ..critical.series import read_fields, sampled, write_fields
from ..digests import check_digest, json_digest, with_digest
from ..ensemble import Ensemble
from ..errors import UserError
from ..hmc import tune
from ..job.progress import Progress
from ..markov import kernel_from_description
from ..provenance import version
from ..streams import Streams
from ..study.timing import one_thread
from ..untrusted import parse_json, read_text
from .shown_search import shown_search

if TYPE_CHECKING:
    from ..action import Phi4
    from ..config import Card
    from ..critical.card import CriticalCard, PointSection, SizeSection
    from ..critical.models import Place
    from ..critical.series import Fields
    from ..types import FloatArray
    from .contract import StopCheck

__all__ = ["fields_at", "model_of"]

SEARCHING = 64  #: chains of the search for the cheapest HMC


def model_of(place: Place) -> Path:
    return place.model if (place.model / "card.toml").exists() else place.score


def fields_at(
    card: CriticalCard,
    point: PointSection,
    size: SizeSection,
    place: Place,
    cards: dict[float, Card],
    kappa: float,
    progress: Progress,
    stop: StopCheck | None,
) -> Fields:
    """Draws and chains at one coupling, read if they are there."""
    from ..build.learned import refuse_coarse
    from ..model.storage import load_model, read_card
    from ..proposal import proposal_for

    settings, path = card.critical, place.fields(kappa)
    identity = {
        "lam": point.lam,
        "kappa": kappa,
        "L": size.L,
        "draws": size.draws,
        "steps": size.steps,
        "hmc_chains": size.hmc_chains,
        "seed": settings.seed,
        "beside": card.beside(point),
        "budget": settings.budget,
        "model": json_digest(read_card(model_of(place))),
        "version": version(),
    }
    remedy = (
        f"{place.label} at kappa = {kappa:g}; in the card: steps = {2 * size.steps}, more training, or max_doubling"
    )
    if (found := read_fields(path, identity)) is not None:
        if found.about["doubling"] > settings.max_doubling:  # it was larger when they were drawn
            raise UserError(
                f"log_q spreads by {found.about['doubling']:.2g} under twice the steps, and max_doubling is"
                f" {settings.max_doubling:g} ({remedy})"
            )
        return found
    beside = ", ".join(card.beside(point)) or "nothing"
    progress.say(f"sampling {place.label} at kappa = {kappa:g}: {size.draws} draws, {beside} beside")
    action: Any = cards[kappa].theory()
    streams = Streams(settings.seed).child("critical").child(f"{place.label}-{kappa!r}")
    model = load_model(model_of(place), action=action, shape=(size.L, size.L))
    proposal: Any = proposal_for(model, "ode", steps=size.steps, method="adams5", grid="optimised")
    spread = refuse_coarse(proposal, settings.max_doubling, streams.child("doubling"), remedy)
    start = _last_fields(place.data(kappa), size.hmc_chains)
    with one_thread():
        kernels: dict[str, Any] = {
            name: _kernel(name, place, cards, action, card, progress) for name in card.beside(point)
        }
        with progress.task(f"drawing, {place.label}", size.draws) as task:
            found = sampled(action, proposal, size.draws, kernels, start, streams, stop, task.reach)
    found.about["doubling"] = spread
    write_fields(path, found, identity)
    return found


def _kernel(
    name: str, place: Place, cards: dict[float, Card], action: Phi4, card: CriticalCard, progress: Progress
) -> Any:
    """HMC searched for the fewest gradients per independent |m|, or its trajectory and a Swendsen-Wang update in turn.

    One search serves all couplings of a size, at the one nearest to the critical one.
    """
    kappa, path = max(cards), place.folder / "hmc.json"
    asked = {"budget": card.critical.budget, "seed": card.critical.seed}
    told: Any = None
    if path.exists():
        told = check_digest(parse_json(read_text(path, "a kernel"), path), path, "remove it, and it is searched again")
    if told is None or told.get("asked") != asked:
        start, search = _last_fields(place.data(kappa), SEARCHING), Streams(card.critical.seed).child(place.label)
        options: Any = {"integrator": "search", "jitter": 0.1, "budget": card.critical.budget}
        how: Any = ("search", "search")
        try:
            with shown_search(progress, card.critical.budget, len(start)) as tell:
                found = tune(cards[kappa].theory(), start, search, *how, **options, tell=tell)
        except UserError as exc:
            raise UserError(
                f"the search for the cheapest HMC of {place.label}: {exc} (critical.budget in the card)"
            ) from None
        told = {"asked": asked, "kernel": found.describe()}
        if told["kernel"]["tuning"]["search"]["budget_ended"]:
            progress.warn(
                f"the search for the cheapest HMC of {place.label} was ended by its budget, its HMC may be far from the"
                " cheapest; raise critical.budget in the card"
            )
        sealed_text(path, json.dumps(with_digest(told)))
    hmc: Any = kernel_from_description(action, told["kernel"])
    return Sequence([hmc, Cluster(action)]) if name == "cluster" else hmc


def _last_fields(path: Path, n_chains: int) -> FloatArray:
    """The last fields of an ensemble, (n_chains, L, L): one of each chain, and earlier ones where these are too few."""
    with Ensemble(path) as ensemble:
        found: FloatArray = ensemble.phis(max(0, ensemble.n_cfg - n_chains))
    return found
