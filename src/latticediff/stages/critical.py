"""Stage critical: a conditioned model of every size, fields of it and of chains beside it, and what they say."""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import bill
from ..action import Phi4
from ..atomic import claimed, entries_of, sealed_text
from ..cluster import Cluster
from ..composite import Sequence
from ..config import parse_card
from ..critical.models import Place, cards_of
from ..critical.results import at_point, costs_of, ratio_error
from ..critical.series import read_fields, sampled, write_fields
from ..digests import check_digest, json_digest, with_digest
from ..ensemble import Ensemble
from ..errors import FileError, UserError
from ..hmc import tune
from ..host import torch_defaults
from ..job.progress import Progress
from ..markov import kernel_from_description
from ..provenance import commit, version
from ..streams import Streams
from ..study.timing import one_thread
from ..untrusted import parse_json, read_text
from .shown_search import shown_search

if TYPE_CHECKING:
    from ..config import Card
    from ..critical.card import CriticalCard, PointSection, SizeSection
    from ..critical.series import Fields
    from ..types import Description, FloatArray, PathLikeStr
    from .contract import StopCheck

__all__ = ["critical"]

DOCUMENT = "critical.json"
OWN = {"models", "fields", "card.toml", DOCUMENT}
SEARCHING = 64  #: chains of the search for the cheapest HMC


@torch_defaults()
def critical(
    card: CriticalCard,
    out: PathLikeStr,
    *,
    progress: Progress | None = None,
    stop: StopCheck | None = None,
    command: str = "",
) -> Description:
    """Train what is missing, sample what is missing, and write ``critical.json``, ``critical.md`` and figures.

    Parameters
    ----------
    card : CriticalCard
    out : path-like
        Folder, made if missing; what is done there is kept, and the same call goes on.
    progress, stop
        See `latticediff.stages.generate.generate`.
    command : str
        What the page says that it was made by.

    Returns
    -------
    dict
        The document: ``points``, each with what every sampler found and what it cost.

    Raises
    ------
    FileError
        The folder belongs to something else, or a file in it is damaged.
    GateError
        Data are not in equilibrium.
    UserError
        log_q of a model depends on its integration steps, or curves do not cross in the window of the card.
    StopRequested
        `stop` gave a reason; what is done is kept.
    """
    from ..report.critical import write_critical

    progress, out = progress or Progress(), Path(out)
    names = entries_of(out)
    if names and not OWN & set(names):
        raise FileError(f"{out} holds {sorted(names)[0]} and no critical point; choose another --out")
    with claimed(out):
        sealed_text(out / "card.toml", card.to_toml())
        points = []
        for number, point in enumerate(card.point):
            fields: dict[int, dict[float, Fields]] = {}
            paid: dict[int, Description] = {}
            before: Place | None = None
            for size in card.sizes(point):
                place = Place.of(out, point, size)
                cards = cards_of(card, point, size, before, card.critical.seed + 1000 * number + size.L)
                paid[size.L] = _train(place, cards, progress, stop)
                fields[size.L] = {
                    kappa: _fields(card, point, size, place, cards, kappa, progress, stop) for kappa in cards
                }
                before = place
            points.append(_point(card, point, fields, paid))
        document: Description = {
            "name": card.critical.name,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "version": version(),
            "commit": commit(),
            "command": command or f"latticediff critical CARD --out {shlex.quote(out.name)}",
            "card": json.loads(card.model_dump_json()),
            "points": points,
        }
        text = json.dumps(with_digest(document), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        sealed_text(out / DOCUMENT, text)
        write_critical(document, out)
    return document


def _train(place: Place, cards: dict[float, Card], progress: Progress, stop: StopCheck | None) -> Description:
    """Data, score matching and fine-tuning of a size, as far as they are not there; and what they cost."""
    from ..model.storage import read_card
    from .finetune import NothingGained, finetune
    from .generate import generate
    from .train import train

    options: dict[str, Any] = {"progress": progress, "stop": stop, "resume": True}
    place.folder.mkdir(parents=True, exist_ok=True)
    paths = [place.data(kappa) for kappa in cards]
    own = cards[max(cards)]  # the last coupling is the model's own
    _require_same(place.folder / "card.toml", own)
    if not (place.model / "card.toml").exists() and not (
        own.finetune.steps == 0 and (place.score / "card.toml").exists()
    ):
        progress.say(f"training the model of {place.label}, in {place.folder}")
        for kappa, one in cards.items():
            generate(one, place.data(kappa), **options)
        train(own, paths[::-1], place.score, **options)
        if own.finetune.steps:
            try:
                finetune(own, place.score, paths[::-1], place.model, **options)
            except NothingGained as exc:
                progress.warn(f"{exc}; going on with the score-matched model")
    about = read_card(_model(place))
    return {"training": bill.training_seconds(about), "data": bill.data_seconds(about) or 0.0}


def _require_same(path: Path, card: Card) -> None:
    """Refuse the folder of a model that another card has begun."""
    if not path.exists():
        sealed_text(path, card.to_toml())
    elif difference := card.difference(parse_card(read_text(path, "the card of a model")).to_dict()):
        raise FileError(f"{path.parent} was begun by another card ({difference}); choose another --out")


def _model(place: Place) -> Path:
    return place.model if (place.model / "card.toml").exists() else place.score


def _fields(
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
        "beside": settings.beside,
        "budget": settings.budget,
        "model": json_digest(read_card(_model(place))),
        "version": version(),
    }
    if (found := read_fields(path, identity)) is not None:
        return found
    progress.say(
        f"sampling {place.label} at kappa = {kappa:g}: {size.draws} draws, {', '.join(settings.beside)} beside"
    )
    action: Any = cards[kappa].theory()
    streams = Streams(settings.seed).child("critical").child(f"{place.label}-{kappa!r}")
    model = load_model(_model(place), action=action, shape=(size.L, size.L))
    proposal: Any = proposal_for(model, "ode", steps=size.steps, method="adams5", grid="optimised")
    remedy = (
        f"{place.label} at kappa = {kappa:g}; in the card: steps = {2 * size.steps}, more training, or max_doubling"
    )
    spread = refuse_coarse(proposal, settings.max_doubling, streams.child("doubling"), remedy)
    start = _last_fields(place.data(kappa), size.hmc_chains)
    with one_thread():
        kernels: dict[str, Any] = {
            name: _kernel(name, place, cards, action, card, progress) for name in settings.beside
        }
        with progress.task(f"draws of {place.label}", size.draws) as task:
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
    if not path.exists():
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
        if found.describe()["tuning"]["search"].get("budget_ended"):
            progress.warn(
                f"the search for the cheapest HMC of {place.label} was ended by its budget, its HMC may be far from the"
                " cheapest; raise critical.budget in the card"
            )
        sealed_text(path, json.dumps(with_digest(found.describe())))
    told = check_digest(parse_json(read_text(path, "a kernel"), path), path)
    hmc: Any = kernel_from_description(action, told)
    return Sequence([hmc, Cluster(action)]) if name == "cluster" else hmc


def _last_fields(path: Path, n_chains: int) -> FloatArray:
    """The last fields of an ensemble, (n_chains, L, L): one of each chain, and earlier ones where these are too few."""
    with Ensemble(path) as ensemble:
        found: FloatArray = ensemble.phis(max(0, ensemble.n_cfg - n_chains))
    return found


def _point(
    card: CriticalCard, point: PointSection, fields: dict[int, dict[float, Fields]], paid: dict[int, Description]
) -> Description:
    tables = {name: at_point(card, point, fields, name) for name in ("learned", *card.critical.beside)}
    return {
        "lam": point.lam,
        "samplers": tables,
        "costs": costs_of(fields, tables, paid),
        "cost_error": ratio_error(card.critical.n_blocks),
        "doubling": {str(L): [found.about["doubling"] for found in nodes.values()] for L, nodes in fields.items()},
    }
