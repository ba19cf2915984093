"""Data of a training: the ensembles of one or several theories, opened, gated, and measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from os import PathLike
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import bill
from ..action.site_terms import site_terms
from ..build.learned_theory import learned_theory
from ..contracts import require
from ..ensemble import Ensemble
from ..errors import UserError
from ..gaussian.contract import Expandable
from ..gaussian.propagator import alike, measured_propagator, measured_vacuum, smooth_propagator
from ..gaussian.reference import GaussianReference
from ..host import torch_defaults
from ..job.log import JsonLog
from ..provenance import commit, version
from ..training import TrainingData
from .gate import pass_gate

if TYPE_CHECKING:
    import torch

    from ..action import Action
    from ..config import Card
    from ..types import Description, FloatArray, PathLikeStr

__all__ = ["Source", "fingerprints", "gaussian_of", "open_sources", "references"]


class Source(NamedTuple):
    """Data of one theory, from which `build_trainer` makes a `Task`."""

    action: Action
    data: TrainingData
    frequency: float = 1.0


@torch_defaults()
def references(sources: Sequence[Source], phase: str = "symmetric") -> list[GaussianReference]:
    """A `GaussianReference` for each source: `gaussian_of` it, or those `in_disorder`.

    Raises
    ------
    UserError
        As `gaussian_of`; or theories with external fields or random masses beside others.
    """
    actions: list[Any] = [source.action for source in sources]
    first = next((action for action in actions if site_terms(action).are_any), None)
    if first is None:
        return [gaussian_of(source, phase) for source in sources]
    if phase == "broken":
        if site_terms(first).field is not None:
            raise UserError("training.phase is broken; an external field leaves no two equal vacua: leave the key out")
        raise UserError("training.phase is broken; with a random mass fields are expanded around zero: leave it out")
    for action in actions:
        if not site_terms(action).is_like(site_terms(first)):
            raise UserError(
                f"{action!r} beside {first!r}; one network learns one theory with many external fields or random"
                " masses: train on ensembles that differ in the field or the mass alone"
            )
    return in_disorder(sources)


def in_disorder(sources: Sequence[Source]) -> list[GaussianReference]:
    r"""References of one theory in several external fields or with several random masses, which share a propagator.

    It is the mean connected one, :math:`G(k) = V^{-1} \overline{\langle |\phi_k - \langle\phi_k\rangle|^2 \rangle}`,
    the bar a mean over the fields: G h is the linear response to h, and of a field that no ensemble is of, nothing else
    is known. Where phi -> -phi is a symmetry, the mean is zero and none is taken off.
    """
    shape = tuple(sources[0].data.shape)
    form = sources[0].action.quadratic_form(shape)  # type: ignore[attr-defined]
    halves: list[Any] = [0.0, 0.0]
    for source in sources:
        n = len(source.data.train)
        mean = sum(piece.sum(axis=0) for piece in _pieces(source.data, 0, n)) / n
        if source.action.is_symmetric:  # type: ignore[attr-defined]
            mean = 0.0 * mean
        for number, (start, stop) in enumerate(((0, n // 2), (n // 2, n))):
            moved = (piece - mean for piece in _pieces(source.data, start, stop))
            halves[number] = halves[number] + measured_propagator(moved, shape, form=form) / len(sources)
    propagator = smooth_propagator(*halves)
    return [GaussianReference(source.action, propagator, source.data.train.device) for source in sources]


@torch_defaults()
def gaussian_of(source: Source, phase: str = "symmetric") -> GaussianReference:
    """The Gaussian reference with vacuum and propagator measured on the training configurations.

    The propagator is smoothed as far as its halves, of earlier and later Monte Carlo time, allow.

    Parameters
    ----------
    source : Source
    phase : {"symmetric", "broken", "single"}
        Whether to expand around 0, around the two vacua (`latticediff.gaussian.vacua`), or around <m> alone; a theory
        without the symmetry phi -> -phi is always expanded around <m>.

    Returns
    -------
    GaussianReference

    Raises
    ------
    UserError
        The action has no expansion, or not the two equal vacua that the phase wants.
    """
    data = source.data
    n, shape = len(data.train), tuple(data.shape)
    bounds = ((0, n // 2), (n // 2, n)) if n // 2 > 1 else ((0, n), (0, n))
    action: Any = source.action
    require(action, Expandable, f"action {action!r}, which the learned side cannot expand,")
    if phase == "broken" and not action.is_symmetric:
        raise UserError(
            f"{action!r} is not symmetric under phi -> -phi; training.phase = broken wants two equal vacua, a theory"
            " without them is expanded around <m> (phase = single)"
        )
    if phase != "symmetric" and hasattr(action, "components"):
        raise UserError(
            f"training.phase is {phase}; {action!r} is expanded around zero alone, its vacua are a sphere: take"
            " training.phase = symmetric"
        )
    one_sided, vectors = phase == "single" or not action.is_symmetric, action.unit_vectors
    vacuum = 0.0 if phase == "symmetric" and not one_sided else measured_vacuum(_pieces(data, 0, n), one_sided)
    form = action.quadratic_form(shape)
    first, second = (
        measured_propagator(_pieces(data, *half), shape, vacuum, vectors, one_sided, form) for half in bounds
    )
    if hasattr(action, "components"):
        propagator = alike(smooth_propagator(first.mean(axis=0), second.mean(axis=0)), shape)
    else:
        propagator = smooth_propagator(first, second, vectors)
    return GaussianReference(action, propagator, data.train.device, vacuum=vacuum, one_sided=one_sided)


def _pieces(data: TrainingData, start: int, stop: int) -> Iterator[FloatArray]:
    # piece by piece: streamed data are never in memory as a whole
    for low in range(start, stop, 4096):
        yield data.train[low : min(low + 4096, stop)].double().cpu().numpy()


def open_sources(
    card: Card,
    ensembles: PathLikeStr | Sequence[PathLikeStr],
    device: torch.device,
    open_files: ExitStack,
    log: JsonLog,
    gate: bool = True,
    theory_of: Callable[[Ensemble], Any] | None = None,
) -> tuple[list[Source], Description]:
    """The data of a training: the ensembles asked for, and those of ``training.ensembles``.

    Parameters
    ----------
    card, ensembles, gate
        See `train`.
    device : torch.device
    open_files : contextlib.ExitStack
        Keeps the files open: data may be streamed.
    log : JsonLog
    theory_of : callable, optional
        The theory that is learned from an ensemble; by default `learned_theory` of the card.

    Returns
    -------
    sources : list of Source
    about : dict
        For the model's card: the program and where the data came from.

    Raises
    ------
    FileError
        The first ensemble is of another action or lattice than the card.
    GateError
        An ensemble is not fit to train on.
    UserError
        Several ensembles for coarse sites, whose law of the fine ones is of one theory.
    """
    files: list[tuple[PathLikeStr, float]] = [
        (path, 1.0) for path in ([ensembles] if isinstance(ensembles, str | PathLike) else ensembles)
    ]
    files += [(entry.file, entry.frequency) for entry in card.training.ensembles]
    if card.training.sites == "coarse" and len(files) > 1:
        raise UserError(
            f"{len(files)} ensembles for training.sites = coarse, which learns one theory; give one, or take"
            " training.sites = odd"
        )
    sources, parents, data_rows = [], [], []
    for number, (path, frequency) in enumerate(files):
        ensemble = open_files.enter_context(Ensemble(path))
        if number == 0:
            ensemble.expect(card.theory(), card.shape)
        if gate or number > 0:
            pass_gate(ensemble, card.gate, log)
        learned = learned_theory(card, ensemble.action) if theory_of is None else theory_of(ensemble)
        section = card.training
        data = TrainingData(ensemble, held_out=section.held_out, device=device, where=section.data, theory=learned)
        sources.append(Source(learned, data, frequency))
        parents.append(ensemble.parent())
        data_rows.append(bill.row_of_ensemble(ensemble))
    return sources, {
        "program": {"name": "latticediff", "version": version(), "commit": commit()},
        "ensemble": parents[0],
        **({"further_ensembles": parents[1:]} if parents[1:] else {}),
        bill.KEY: data_rows,
    }


def fingerprints(about: Description) -> list[str]:
    """Fingerprints of the ensembles of a training, in their order; its checkpoint belongs to these data and no others.

    Parameters
    ----------
    about : dict
        What `open_sources` returns beside the sources.

    Returns
    -------
    list of str
    """
    return [parent["fingerprint"] for parent in (about["ensemble"], *about.get("further_ensembles", ()))]
