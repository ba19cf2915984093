"""Stage critical: a conditioned model of every size, fields of it and of chains beside it, and what they say."""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import bill
from ..atomic import claimed, entries_of, sealed_text
from ..config import parse_card
from ..critical.costs import costs_of, ratio_error
from ..critical.meeting import require_crossings
from ..critical.models import Place, cards_of
from ..critical.results import at_point, continuum_of
from ..digests import with_digest
from ..errors import FileError, StopRequested
from ..host import torch_defaults
from ..job.progress import Progress
from ..provenance import commit, version
from ..untrusted import parse_toml, printable, read_text
from .critical_fields import fields_at, model_of

if TYPE_CHECKING:
    from ..config import Card
    from ..critical.card import CriticalCard, PointSection
    from ..critical.series import Fields
    from ..types import Description, PathLikeStr
    from .contract import StopCheck

__all__ = ["critical"]

DOCUMENT = "critical.json"
CARD = "card.toml"


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
    _require_own(out)
    with claimed(out):
        sealed_text(out / CARD, card.to_toml())
        points = []
        for number, point in enumerate(card.point):
            fields: dict[int, dict[float, Fields]] = {}
            paid: dict[int, Description] = {}
            before: Place | None = None
            for size in card.sizes(point):
                place = Place.of(out, point, size)
                cards = cards_of(card, point, size, before, card.critical.seed + 1000 * number + size.L)
                try:
                    paid[size.L] = _train(place, cards, progress, stop)
                except StopRequested as exc:  # which says how the single stage goes on
                    told = str(exc).split("; run the same command")[0]
                    raise StopRequested(
                        f"{told}; what is done is kept, run the same command again", exc.exit_code
                    ) from None
                fields[size.L] = {
                    kappa: fields_at(card, point, size, place, cards, kappa, progress, stop) for kappa in cards
                }
                # what does not cross is told before larger sizes are trained
                require_crossings(card, point, fields)
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
        document |= continuum_of(card, points)
        text = json.dumps(with_digest(document), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        sealed_text(out / DOCUMENT, text)
        write_critical(document, out)
    return document


def _require_own(out: Path) -> None:
    """Refuse a folder that holds something else: the card of another command would be lost."""
    names = sorted(entries_of(out))
    if not names:
        return
    try:
        own = {"point", "size"} <= set(parse_toml(read_text(out / CARD, "the card of a critical point"), out / CARD))
    except FileError:
        own = False
    if not own:
        raise FileError(
            f"{out} is no folder of a critical point, it holds {printable(names[0], 80)}; choose another --out"
        )


def _train(place: Place, cards: dict[float, Card], progress: Progress, stop: StopCheck | None) -> Description:
    """Data, score matching and fine-tuning of a size, as far as they are not there; and what they cost."""
    from ..model.storage import read_card
    from .finetune import NothingGained, finetune
    from .generate import generate
    from .train import train

    options: dict[str, Any] = {"progress": progress, "stop": stop, "resume": True}
    place.folder.mkdir(parents=True, exist_ok=True)
    paths = [place.data(kappa) for kappa in cards]
    own = cards[max(cards)]
    _require_same(place, cards)
    tuned = own.finetune.steps > 0 and not place.untuned.exists()
    if not ((place.model if tuned else place.score) / CARD).exists():
        progress.say(f"training the model of {place.label}, in {place.folder}")
        for kappa, one in cards.items():
            generate(one, place.data(kappa), **options)
        train(own, paths[::-1], place.score, **options)
        if tuned:
            try:
                finetune(own, place.score, paths[::-1], place.model, **options)
            except NothingGained as exc:
                told = str(exc).split("; lower finetune")[0]  # keys of another card
                remedy = (
                    "lower finetune_learning_rate of that size, or raise its training_steps, and choose another --out"
                )
                progress.warn(f"{place.label}: {told}; going on with the score-matched model, or {remedy}")
                sealed_text(place.untuned, f"{exc}\n")  # else the same command would try in vain again
    about = read_card(model_of(place))
    return {
        "training": bill.training_seconds(about),
        "data": bill.data_seconds(about) or 0.0,
        "untuned": place.untuned.exists(),
    }


def _require_same(place: Place, cards: dict[float, Card]) -> None:
    """Refuse the folder of a model that another card has begun; where the folder lies does not matter."""
    path, card = place.folder / CARD, cards[max(cards)]  # the last coupling is the model's own
    if not path.exists():
        sealed_text(path, card.to_toml())
        return
    begun = parse_card(read_text(path, "the card of a model"))
    difference = card.difference(begun.to_dict(), ignore=("training.init",))
    init, before = (None if one.training.init is None else Path(one.training.init).parts[-2:] for one in (begun, card))
    if not difference and init != before:
        difference = f"it began with {'no weights' if init is None else '/'.join(init)}"
    wanted = {place.data(kappa).name for kappa in cards}
    if not difference and (other := {found.name for found in place.folder.glob("data-*.h5")} - wanted):
        difference = f"it has {sorted(other)[0]}, and nodes want {', '.join(sorted(wanted))}"
    if difference:
        raise FileError(f"{place.folder} was begun by another card ({difference}); choose another --out")


def _point(
    card: CriticalCard, point: PointSection, fields: dict[int, dict[float, Fields]], paid: dict[int, Description]
) -> Description:
    tables = {name: at_point(card, point, fields, name) for name in ("learned", *card.beside(point))}
    return {
        "lam": point.lam,
        "samplers": tables,
        "costs": costs_of(fields, tables, paid),
        "cost_error": ratio_error(card.critical.n_blocks),
        "doubling": {str(L): [found.about["doubling"] for found in nodes.values()] for L, nodes in fields.items()},
    }
