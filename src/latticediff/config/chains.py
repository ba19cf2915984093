"""Sections of a run-card on the chains that are compared, and their analysis."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from ..defaults import SDE_STEPS
from .bounds import LARGEST, Count, CountFromZero, Device, Kernels, Positive, Section

__all__ = [
    "AnalysisSection",
    "HMCChainSection",
    "KernelSection",
    "OdeSection",
    "ProposalSection",
    "SamplingSection",
    "SdeSection",
]


class HMCChainSection(Section):
    """HMC chains to compare with, every update stored; as many chains as the ensemble has."""

    n_updates: Count = 1000
    search: bool | None = None  #: a kernel of its own, of least cost (`latticediff.hmc.search`), not the ensemble's


class OdeSection(Section):
    """Chains of the probability-flow ODE: `steps` integration steps of the scheme `method` on a time grid.

    The grid is uniform in log sigma, or optimised for the model and these steps when it is trained.

    `rungs` above 1 anneal every draw, at as many times the price; see `latticediff.proposal.refine`.
    `trace` says how the divergence of a network that has no closed form is computed, which is exact in any case:
    `auto` refuses where that is expensive, `full` and `coloured` do not; see `latticediff.networks.deep.divergence`.
    """

    n_chains: Count = 100
    n_warmup: Count = 10
    n_updates: Count = 150
    steps: Count = 12
    method: Literal["rk4", "dopri5", "adams5"] = "rk4"
    grid: Literal["uniform", "optimised"] = "uniform"
    rungs: Count = 1
    rung_step: Annotated[float, Field(gt=0, le=1)] = 1.0
    trace: Literal["auto", "full", "coloured"] = "auto"


class SdeSection(Section):
    """Chains of the reverse SDE: `steps` reverse steps, the forward path redrawn before each proposal if `refresh`.

    `ladder` places the noise levels, `kernel` is the density of a step, `process` the coordinates of the path; see
    `latticediff.proposal.plan.ReversePlan`.
    """

    n_chains: Count = 100
    n_warmup: Count = 10
    n_updates: Count = 150
    steps: Annotated[int, Field(ge=2, le=LARGEST)] = SDE_STEPS
    ladder: Literal["geometric", "cosine", "optimised"] = "optimised"
    kernel: Literal["gaussian", "site", "dressed"] = "dressed"
    process: Literal["variance_exploding", "variance_preserving"] = "variance_exploding"
    refresh: bool = True


class ProposalSection(Section):
    """Chains of a proposal that another package installs under ``latticediff.proposals``; further keys are its own."""

    model_config = ConfigDict(extra="allow")

    n_chains: Count = 100
    n_warmup: Count = 10
    n_updates: Count = 150


class KernelSection(Section):
    """How proposals become updates, the same for both routes; see docs/proposals.md.

    `move` is independence (every proposal is fresh), partial (near the current field: `eps` with coloured or
    infrared noise, `sigma` with white noise) or block (`eps` within a cube of `block` sites a side). `tries`
    candidates for each update. `hmc` trajectories of `[hmc]`, `cluster` Swendsen-Wang updates and an update of each of
    the installed `kernels` come before it.
    """

    move: Literal["independence", "partial", "block"] = "independence"
    noise: Literal["coloured", "white", "infrared"] = "coloured"
    eps: Annotated[float, Field(gt=0, le=1)] = 1.0
    sigma: Positive | None = None
    block: Count | None = None
    tries: Count = 1
    hmc: CountFromZero = 0
    cluster: CountFromZero = 0
    kernels: Kernels | None = None

    @model_validator(mode="after")
    def _knob_is_given(self) -> Self:
        if self.move == "partial" and self.noise == "white" and self.sigma is None:
            raise ValueError("names no sigma; white noise wants one, between the noise levels of the model")
        if self.move == "block" and self.block is None:
            raise ValueError("names no block; give the edge of the block in sites")
        return self


class SamplingSection(Section):
    """The chains that are compared. Sections of routes that other packages install stand beside ``ode`` and ``sde``.

    `batch` proposals are evaluated at once; it changes speed and memory, no bit.

    `beside` names further models for the card's theory and lattice, shipped ones or folders. Each gets chains of its
    own, by the ODE route in the scheme that it brings along, as many and as long as those of ``ode``.

    No chain is begun whose log_q changes by a spread of more than `max_doubling` from field to field under twice the
    integration steps. The error of any average is then at most that many of its standard deviations.
    """

    model_config = ConfigDict(extra="allow")

    device: Device = "auto"
    batch: Count = 500
    n_forward: Count = 10_000
    max_doubling: Positive | Literal["any"] = 0.1
    kernel: KernelSection = KernelSection()
    hmc: HMCChainSection = HMCChainSection()
    ode: OdeSection = OdeSection()
    sde: SdeSection = SdeSection()
    #: absent or empty: none; absent from what identifies a run, so that folders of runs without it go on as before
    beside: list[Annotated[str, Field(min_length=1)]] | None = None

    @field_validator("beside")
    @classmethod
    def _each_once(cls, models: list[str] | None) -> list[str] | None:
        if models and (twice := [name for place, name in enumerate(models) if name in models[:place]]):
            raise ValueError(f"names {twice[0][:80]!r} twice; name each model once")
        return models


class AnalysisSection(Section):
    """Gamma method: S of Wolff's automatic window (hep-lat/0306017)."""

    s_tau: Positive = 1.5
