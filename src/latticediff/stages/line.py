"""Stage line: exact ensembles along a line of couplings from one model, each in its own file, and what they show."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import tomli_w

from ..analysis import ess_reverse
from ..atomic import claimed
from ..build.learned import route_named, section_of
from ..config import parse_card
from ..ensemble import Ensemble, run_directory
from ..errors import FileError, ModelError, UserError
from ..host import torch_defaults
from ..job.progress import Progress
from ..model.storage import load_model
from ..proposal.grid import own_scheme
from ..report.line import Line, Point, write_line
from .measure import measure_ensemble
from .model_place import refuse_model_folder
from .sample import sample
from .verify import verify

if TYPE_CHECKING:
    from ..config import Card
    from ..model.score_model import ScoreModel
    from ..types import PathLikeStr
    from .contract import StopCheck

__all__ = ["card_of", "draw_line", "parse_values"]

DIGITS = 12  # of a coupling: 0.1 + 0.2 is 0.3, in the name of its file too
LARGEST = 1000  # couplings of a line: whoever asks for more has mistyped


def parse_values(text: str) -> tuple[str, tuple[float, ...]]:
    """Read a coupling and its values from the command line.

    Parameters
    ----------
    text : str
        First, last and how many, as in ``"lam=4:6.5:6"``, or a list, as in ``"lam=4,4.5,6"``.

    Returns
    -------
    name : str
    values : tuple of float
        Ascending, each once, rounded to `DIGITS` significant digits.

    Raises
    ------
    UserError
        The text is neither of the two, or has a number that is not finite, or no values or too many.
    """
    name, equals, listed = text.partition("=")
    name, parts = name.strip(), re.split("([:,])", listed)
    try:
        numbers = [float(part) for part in parts[::2]]
        if parts[1::2] == [":", ":"]:
            low, high, n = numbers
            if n != int(n) or not 2 <= n <= LARGEST:
                raise UserError(f"--along {text}: {n:g} values between two; expected 2 to {LARGEST}")
            numbers = [low + (high - low) * i / (n - 1) for i in range(int(n))]
        elif ":" in parts:
            raise ValueError
    except ValueError:
        numbers = []
    if not (name and equals and numbers and all(map(math.isfinite, numbers))):
        raise UserError(
            f"--along got {text!r}; expected first:last:how-many or a list, as in lam=4:6.5:6 or lam=4,4.5,6"
        )
    return name, tuple(sorted({float(f"{value:.{DIGITS}g}") for value in numbers}))


def card_of(model: ScoreModel, overrides: Sequence[str] = (), say: Callable[[str], object] | None = None) -> Card:
    """The card of a model's chains: its theory, lattice and integrator, and the defaults for the rest.

    Parameters
    ----------
    model : latticediff.model.score_model.ScoreModel
    overrides, say
        As of `latticediff.config.load_card`.

    Returns
    -------
    latticediff.config.Card

    Raises
    ------
    CardError
        An override that does not fit.
    UserError
        A theory without couplings to vary.
    """
    if model.theory is not model.action:
        raise UserError(
            f"the model is of the {model.action.sites} sites of {model.theory!r} alone; a line wants a model of all"
            " sites"
        )
    options: Any = getattr(model.action, "options", None)
    if options is None:
        raise UserError(
            f"{model.action!r} has no line of couplings; expected a phi^4 action, or one that names its options"
        )
    network: Any = model.network  # of the contract `Network`: a module that describes itself
    data = {
        "run": {"name": "line", "seed": 1},
        "action": {"name": model.action.describe()["name"], **options()},
        "lattice": {"shape": list(model.shape)},
        "network": network.describe(),
        "sampling": {"ode": own_scheme(model)},
    }
    return parse_card(tomli_w.dumps(data), overrides, source="line", say=say)


@torch_defaults()
def draw_line(
    folder: PathLikeStr,
    along: str,
    out: PathLikeStr,
    overrides: Sequence[str] = (),
    *,
    route: str = "ode",
    n: int | None = None,
    outside: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
    stop: StopCheck | None = None,
) -> Line:
    """Draw an exact ensemble at every coupling of a line, measure them, and write table and figure.

    Each file has the bits of `latticediff.stages.sample.sample` for the card that it holds; its seed follows from
    the card's and the coupling, so that couplings are independent and others may be added later.

    Parameters
    ----------
    folder : path-like or str
        Model folder, or name of a shipped model.
    along : str
        See `parse_values`.
    out : path-like
        Folder; gets ``lam=4.h5`` and so on, ``line.json`` and ``figures/line.png, .pdf, .csv``.
    overrides : sequence of str
        For the card of the chains, `card_of`: ``"sampling.ode.steps=24"``, ``"lattice.shape=[16,16]"``.
    route : str
        ``ode`` or ``sde``.
    n : int, optional
        Proposals at each coupling, all chains together; default: those of the card.
    outside : bool
        Go to couplings or lattices that the model was not trained for, with a warning.
    resume : bool
        Keep finished files once they are verified, go on with an unfinished one. A larger `n` extends them.
    progress, stop
        See `latticediff.stages.generate.generate`.

    Returns
    -------
    latticediff.report.line.Line

    Raises
    ------
    CardError, UserError
        A line or an override that cannot be used, or a log_q that is not accurate enough.
    FileError
        Files are in the way without `resume`, or belong to another model or card, or are damaged.
    ModelError
        Couplings or a lattice outside of the trained range without `outside`.
    StopRequested
        `stop` gave a reason; everything done is saved.
    """
    out, progress = Path(out), progress or Progress()
    route_named(route)  # or refuse it
    model, (name, values) = load_model(folder), parse_values(along)
    card = card_of(model, overrides, progress.say)
    if n is not None:
        chains = section_of(card, route).n_chains
        card = card_of(model, [*overrides, f"sampling.{route}.n_updates={max(1, -(-n // chains))}"])
    couplings = [key for key, value in card.action.options.items() if isinstance(value, int | float)]
    if name not in couplings:
        raise UserError(f"--along got the coupling {name!r}; expected one of {', '.join(couplings)}")
    cards = {value: _card_at(card, name, value) for value in values}
    foreign = [value for value, at in cards.items() if _is_foreign(model, at)]
    trained = _trained(model, card, name)
    if foreign and not outside:
        raise ModelError(_refusal(folder, card, name, foreign, trained))
    paths = {value: out / f"{name}={value:.{DIGITS}g}.h5" for value in values}
    points = []
    refuse_model_folder(out)
    with claimed(out):
        _require_free(paths.values(), resume)
        for number, (value, path) in enumerate(paths.items(), 1):
            progress.say(f"{name} = {value:.{DIGITS}g}, {number} of {len(paths)}")
            if path.exists() and not run_directory(path).is_dir():
                verify(path)  # what an earlier call finished
            common: dict[str, Any] = {"resume": resume, "progress": progress, "stop": stop}
            sample(cards[value], folder, route, path, **common, outside=value in foreign)
            points.append(_measured(path, value, value in trained, value in foreign, card.analysis.s_tau))
        theory = {"action": card.theory().describe(), "shape": list(card.shape)}
        found = Line(Path(folder).name, model.fingerprint(), name, theory, route, tuple(points), trained)
        written = write_line(found, out)
    progress.say(f"wrote {written['json']}")
    return found


def _card_at(card: Card, name: str, value: float) -> Card:
    """The card at one value of the coupling; its seed follows from the line's seed and that value alone."""
    digest = hashlib.sha256(f"{card.run.seed} {name}={value!r}".encode()).digest()
    run = {**card.run.model_dump(), "name": f"{name}={value!r}", "seed": int.from_bytes(digest[:6])}
    data = {**card.to_dict(), "run": run}
    data["action"] = {**data["action"], name: value}
    return parse_card(tomli_w.dumps(data), source="line")


def _is_foreign(model: ScoreModel, card: Card) -> bool:
    """Whether the couplings or extents of the card lie outside of those that the model was trained for."""
    theory: Any = card.theory()
    try:
        model.at(theory, card.shape)
    except ModelError:
        return True
    return False


def _trained(model: ScoreModel, card: Card, name: str) -> tuple[float, ...]:
    """Values of the coupling that the model was trained at together with the card's other couplings; ascending."""
    values = set()
    for member in model.theories():
        couplings = _couplings(member.action, card.action.convention)
        others = (key for key in couplings if key != name)
        given = card.action.options
        if all(math.isclose(couplings[key], given.get(key, math.nan), rel_tol=1e-9) for key in others):
            values.add(float(f"{couplings[name]:.{DIGITS}g}"))
    return tuple(sorted(values))


def _couplings(action: Any, convention: str | None) -> dict[str, float]:
    """The couplings of an action by name, in the convention of the card if it has one."""
    if convention is None:
        return dict(action.couplings)
    return dict(action.in_convention(convention)[0])


def _refusal(folder: PathLikeStr, card: Card, name: str, foreign: Iterable[float], trained: Sequence[float]) -> str:
    asked = ", ".join(f"{value:g}" for value in foreign)
    known = f"{trained[0]:g} to {trained[-1]:g}" if trained else "no theory with these other couplings"
    shape = "x".join(map(str, card.shape))
    return (
        f"{folder} was not trained at {name} = {asked} on {shape}, only at {known}; ask within its range, or add"
        " --outside (Python: outside=True): chains stay exact, acceptance may be low"
    )


def _require_free(paths: Iterable[Path], resume: bool) -> None:
    """Refuse files that an earlier call left, unless it is to be resumed."""
    there = [path for path in paths if path.exists() or run_directory(path).is_dir()]
    if there and not resume:
        raise FileError(f"{there[0]} is there already; go on with --resume, or choose another --out")


def _measured(path: Path, value: float, trained: bool, outside: bool, s_tau: float) -> Point:
    """What a finished file says of one coupling."""
    with Ensemble(path) as ensemble:
        found = measure_ensemble(ensemble, s_tau, installed=False)
        ess: Any = None
        if "log_weight" in ensemble.history_names:  # correlated moves have no weights of independent draws
            ess = ess_reverse(ensemble.history("log_weight").ravel()).pair()
        pairs: Any = {key: estimate.pair() for key, estimate in found.observables.items()}
        return Point(
            value,
            path.name,
            ensemble.fingerprint(),
            trained,
            outside,
            found.n,
            ess,
            cast(float, found.acceptance),  # every Metropolis chain records it
            found.tau_int["abs_m"],
            pairs,
        )
