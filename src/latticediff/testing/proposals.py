"""A proposal: what is drawn and what is weighed have one density, however the draws are cut."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import real_array
from ..asking import is_ours, named
from ..errors import UserError
from ..metropolis.asking import ask_draw, ask_weigh, fingerprint_of, require_sound_values, told_by
from ..metropolis.contract import Draw, LatentProposal, Proposal
from ..types import FloatArray
from .faults import Faults, lacking, raise_faults
from .one_site import density_faults

__all__ = ["check_proposal", "proposal_faults", "require_kept"]

_N_SIGMA = 5.0


def check_proposal(
    proposal: Proposal, fields: ArrayLike | None = None, n: int = 500, seed: int = 5, *, tolerance: float = 1e-2
) -> None:
    """Hold a proposal against `latticediff.metropolis.Proposal`.

    Draws cut into batches are compared with those of one call, bit for bit; weights with draws; a `LatentProposal`
    is followed from fields to noise and back; and on a lattice of one site the density is integrated, and the draws are
    compared with it.

    A path proposal, which is not deterministic, weighs a field along another hidden path than it was drawn. With l =
    log_q of that path minus log_q of the drawn one, ``<g(l) min(1, e^l)> = 0`` for every odd g, as in detailed balance;
    g = tanh is looked at.

    Parameters
    ----------
    proposal : Proposal
    fields : array_like, shape (m, *lattice), optional
        To be weighed beside the draws, for instance exact ones.
    n : int
        Draws for what has a statistical error.
    seed : int
    tolerance : float
        Of log_q, which two passages of an integration in single precision may give differently.

    Raises
    ------
    ContractError
        A line for each fault.
    """
    given = None if fields is None else real_array(fields, "fields")

    def find() -> Faults:
        if faults := proposal_faults(proposal, seed, tolerance):
            return faults
        draw = ask_draw(proposal, n, np.random.default_rng(seed + 2))
        faults = [] if proposal.is_deterministic else _hidden_paths(proposal, draw, seed)
        phi = _sound(draw).phi[:20] if given is None else given
        faults += _weighing(proposal, phi, seed, tolerance)
        if draw.phi[0].size == 1:
            faults += density_faults(proposal, draw, seed)
        return faults

    raise_faults(proposal, "proposal", find)


def proposal_faults(proposal: Any, seed: int = 5, tolerance: float = 1e-2) -> Faults:
    """What is wrong with a dozen draws of a proposal, a line each."""
    if faults := lacking(proposal, Proposal):
        return faults
    before = fingerprint_of(proposal)
    whole = ask_draw(proposal, 12, np.random.default_rng(seed))
    rng = np.random.default_rng(seed)
    parts = [ask_draw(proposal, n, rng) for n in (1, 4, 7)]
    if not np.array_equal(np.concatenate([part.phi for part in parts]), whole.phi):
        faults.append("draws of 1, 4 and 7 are not those of 12; take random numbers proposal by proposal")
    require_sound_values(proposal, whole)
    log_q = ask_weigh(proposal, whole.phi, np.random.default_rng(seed + 1))
    sound = np.isfinite(whole.log_q)
    # the ODE's two passages differ by rounding in single precision
    if proposal.is_deterministic and not np.allclose(log_q[sound], whole.log_q[sound], rtol=0, atol=tolerance):
        off = np.abs(log_q[sound] - whole.log_q[sound]).max()
        faults.append(f"weigh and draw give one field log_q that differ by {off:.3g}; chains that use both are biased")
    if fingerprint_of(proposal) != before:
        faults.append("its fingerprint changes from call to call")
    told_by(proposal)
    return faults


def require_kept(proposal: Proposal, tolerance: float) -> None:
    """Refuse a proposal of another package that breaks its contract within a dozen draws, before a file is made of it.

    Parameters
    ----------
    proposal : Proposal
        One of this package passes untried.
    tolerance : float
        As of `check_proposal`.

    Raises
    ------
    UserError
        In one line.
    """
    if not is_ours(proposal) and (faults := proposal_faults(proposal, tolerance=tolerance)):
        raise UserError(f"{named(proposal, 'proposal')} breaks its contract: {'; '.join(faults)}")


def _sound(draw: Draw) -> Draw:
    """Those draws that did not blow up."""
    sound = np.isfinite(draw.log_q)
    return Draw(draw.phi[sound], draw.log_q[sound])


def _hidden_paths(proposal: Any, draw: Draw, seed: int) -> Faults:
    """Drawn and weighed paths of the same fields, in both directions."""
    phi, log_q = _sound(draw)
    again = ask_weigh(proposal, phi, np.random.default_rng(seed + 3))
    difference = again[np.isfinite(again)] - log_q[np.isfinite(again)]
    if not len(difference):
        return ["weigh gives no finite log_q for any field that it drew"]
    values = np.tanh(difference) * np.exp(np.minimum(difference, 0.0))
    mean, error = float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
    if abs(mean) <= _N_SIGMA * error + 1e-6:
        return []
    return [
        f"weigh and draw are of two densities: <tanh(l) min(1, e^l)> = {mean:.4g} +- {error:.2g}, l being log_q of a"
        " weighed path minus that of the drawn one; expected 0"
    ]


def _weighing(proposal: Any, phi: FloatArray, seed: int, tolerance: float) -> Faults:
    """Given fields: of one weight in any batch, and led back from their noise."""
    faults: Faults = []
    log_q = ask_weigh(proposal, phi, np.random.default_rng(seed))
    if not proposal.is_deterministic:
        return faults
    finite = np.isfinite(log_q)
    one_by_one = [ask_weigh(proposal, phi[i : i + 1], np.random.default_rng(seed + i))[0] for i in range(len(phi))]
    if not np.allclose(np.array(one_by_one)[finite], log_q[finite], rtol=0, atol=tolerance):
        faults.append("is_deterministic, and weigh gives a field another log_q alone than among others")
    if isinstance(proposal, LatentProposal) and finite.any():
        noise, inverted = proposal.invert(phi[finite], np.random.default_rng(seed))
        back = proposal.transport(noise)
        off = float(np.abs(back.phi - phi[finite]).max())
        if not off <= tolerance * (1 + float(np.abs(phi[finite]).max())):
            faults.append(f"transport(invert(phi)) is off phi by {off:.3g}")
        if not np.allclose(inverted, back.log_q, rtol=0, atol=tolerance):
            gap = float(np.abs(inverted - back.log_q).max())
            faults.append(f"invert and transport give one field log_q that differ by {gap:.3g}")
    return faults
