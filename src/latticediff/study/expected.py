r"""What the phases of a cell are expected to take, in seconds: rough, and corrected by `latticediff.study.outlook`.

A chain ends when the relative error of :math:`\tau_{int}` is p, after about :math:`33 \tau_{int} / p^2` updates of all
chains together, and of each at least 40 tau_int. The tau_int are those of 2D :math:`\phi^4` at :math:`\xi = L / 4`, and
prices those of one core; only how they grow with the lattice matters much, since measurements correct them.
"""

from __future__ import annotations

import os

from ..hmc.search import typical_evaluations
from ..lattice import volume
from .cell import Cell
from .chains import FIRST, FIRST_ALL, LEAST_TAUS
from .kernels import FINALISTS, MIXES, SCAN, SCAN_SECONDS
from .outlook import Phase, Piece
from .plan import GRADIENT_NS, Plan
from .samplers import SAMPLERS
from .timing import ROUND_SECONDS, ROUNDS

__all__ = ["FILM", "PAGE", "expected_after", "expected_of", "timing_key"]

FILM, PAGE = "film", "page"  #: keys of what follows the timing

OF_ERROR = 33.0  #: updates of all chains times p^2, in tau_int, at which the relative error is p
LOADING = 1.0  #: seconds of loading a model
DRAWING = 6.0  #: seconds of drawing and writing all figures
FOURIER = 4.0  #: gradients that one of Fourier acceleration takes
OVERHEAD = 6.0  #: gradients that the rest of a trajectory takes
MIX = 70.0  #: gradients that a cluster update and what goes with it take
FIELDS = 3000 * 20.0  #: gradients of the fields of the target, in those of one chain: 64 chains of 940 trajectories
#: microseconds of a site and update
NETWORK = {"learned": 0.7, "fast": 0.2, "sde": 2.0, "partial": 2.0, "fast_hmc": 0.25}


def expected_of(cell: Cell, threads: int = 0) -> Piece:
    """The phases of a chain's cell, as `latticediff.study.chains.run_chain` tells them.

    Parameters
    ----------
    cell : Cell
        Of kind "chain".
    threads : int
        Of compiled kernels; default all processors.
    """
    sites, extent, name = volume(cell.shape), max(cell.shape), cell.sampler
    gradient = 1e-9 * GRADIENT_NS * cell.n_chains * sites / (threads or os.cpu_count() or 1)
    limit = 1.1 * cell.settings["seconds"]
    if SAMPLERS[name].is_learned:
        update = 1e-6 * NETWORK.get(name, 1.0) * cell.n_chains * sites
        updates = _updates(cell, 4.0 if name == "partial" else 0.6)
        target = FIELDS * gradient / cell.n_chains
        weighing = 1e-6 * NETWORK.get(name, 1.0) * 2048 * sites
        phases = (
            Phase("model", LOADING),
            Phase("chain", updates * update, limit),
            Phase("weights", target + weighing),
        )
        return Piece(cell.digest, cell.title, name, phases)
    tau, price = {
        "hmc": (0.045 * extent**2, 1.5 * extent + OVERHEAD),
        "hmc_unit": (0.12 * extent**2, 3.5 * sites**0.25 + OVERHEAD),
        "fourier_hmc": (0.06 * extent**2, FOURIER * (0.8 * extent + OVERHEAD / 2)),
        "cluster": (1.5, MIX),
    }.get(name, (float(extent), float(extent)))
    thermalising = Phase("start", 400 * 15 * gradient)
    chain = Phase("chain", _updates(cell, tau) * price * gradient, limit)
    if name == "cluster":
        scans = 1.25 * SCAN * (len(MIXES) + 2 * FINALISTS)
        search = Phase("search", (len(MIXES) + FINALISTS) * 6 * SCAN_SECONDS + scans * MIX * gradient)
    elif name in ("hmc", "fourier_hmc"):
        evaluations = typical_evaluations(cell.settings["budget"], cell.n_chains, name == "fourier_hmc")
        search = Phase("search", evaluations * gradient * (FOURIER if name == "fourier_hmc" else 1.0))
    else:
        search = Phase("search", 200 * 15 * gradient)
    return Piece(cell.digest, cell.title, name, (search, thermalising, chain))


def _updates(cell: Cell, tau: float) -> float:
    """Updates of each chain until its tau_int is known, the dropped tenth included."""
    n, precision = cell.n_chains, cell.settings["precision"]
    return max(FIRST, FIRST_ALL / n, max(LEAST_TAUS, OF_ERROR / precision**2 / n) * tau) / 0.9


def expected_after(plan: Plan) -> list[Piece]:
    """What comes after the chains: the timing of every theory, films, and the page."""
    pieces = []
    for number, theory in enumerate(plan.theories):
        names = [name for at, name in plan.cells if at == number]
        seconds = (len(names) * ROUNDS + 2) * ROUND_SECONDS
        seconds += 0.5 * LOADING * sum(SAMPLERS[name].is_learned for name in names)
        pieces.append(
            Piece(
                timing_key(number),
                f"timing at {theory.label}",
                "timing",
                (Phase("timing", seconds, 1.5 * seconds),),
                True,
            )
        )
    films = len({name for _, name in plan.cells if SAMPLERS[name].is_learned})
    if films:
        pieces.append(Piece(FILM, "film", "film", (Phase("film", films * LOADING),), True))
    return [*pieces, Piece(PAGE, "page", "page", (Phase("page", DRAWING),), True)]


def timing_key(number: int) -> str:
    """Key of the timing of a theory."""
    return f"timing {number}"
