"""The sections of a run-card: names, types, bounds and defaults of every key.

Models are strict (``"8"`` is no integer, ``true`` is no number), frozen, and forbid unknown keys;
NaN and infinities are refused. `[action]` and `[network]` keep the keys that belong to the action
or network named there, which checks them itself.
"""

from pathlib import PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from ..defaults import SDE_STEPS
from ..lattice import check_shape
from ..observables.table import OBSERVABLES, installed_names

__all__ = [
    "NETWORK_OPTIONS",
    "ActionSection",
    "AnalysisSection",
    "EnsembleEntry",
    "GateSection",
    "HMCChainSection",
    "HMCSection",
    "KernelSection",
    "LatticeSection",
    "NetworkSection",
    "OdeSection",
    "RidgeOptions",
    "RunSection",
    "SamplingSection",
    "SdeSection",
    "TrainingSection",
    "Width",
]

#: of anything: a bound that no computer reaches, so that products of two stay numbers that NumPy knows
LARGEST = 10**12

Count = Annotated[int, Field(ge=1, le=LARGEST)]
CountFromZero = Annotated[int, Field(ge=0, le=LARGEST)]
Width = Annotated[int, Field(ge=1, le=10**4)]  #: of a network, whose weights go with the square
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]


def _primary(name: str) -> str:
    """The name of an observable of configurations, which has a tau_int."""
    known = [*(name for name, entry in OBSERVABLES.items() if not entry.derived), *installed_names()]
    if name not in known:
        raise ValueError(f"expected one of {', '.join(known)}")
    return name


class Section(BaseModel):
    """What all sections share."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class OpenSection(Section):
    """A section whose further keys belong to the thing that `name` picks from the registry."""

    model_config = ConfigDict(extra="allow")

    name: str

    @property
    def options(self) -> dict[str, Any]:
        """The keys beside the declared ones, as the card gives them."""
        return dict(self.model_extra or {})


class RunSection(Section):
    """Name and seed; every random stream of the run is a branch under the seed."""

    name: Annotated[str, Field(min_length=1)] = "run"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


class ActionSection(OpenSection):
    """The theory: an action of the registry, for phi4 with its convention and that convention's couplings."""

    name: str = "phi4"
    convention: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _phi4_by_default(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("name", "phi4") != "phi4":
            return data
        if "convention" not in data:
            raise ValueError('names no convention; say e.g. convention = "A", with the couplings m2 and lam')
        # couplings are real numbers: -4 and -4.0 are one theory and one card
        return {key: _as_float(value) if type(value) is int else value for key, value in data.items()}


def _as_float(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        raise ValueError("has a coupling that is too large for a float64 number (above 1.8e308)") from None


class LatticeSection(Section):
    """Extents of the periodic lattice, one to four of them."""

    shape: list[int]

    @field_validator("shape")
    @classmethod
    def _extents(cls, shape: list[int]) -> list[int]:
        return list(check_shape(shape))


class HMCSection(Section):
    """The reference chains, which are the training data too. Counts are updates (trajectories) per chain."""

    n_chains: Count = 64
    start: str = "hot"  #: "hot", "cold", or the path of an ensemble file, whose last configurations are taken
    n_warmup: Count = 1000
    n_updates: Count = 10_000
    thin: Count = 10
    trajectory_length: Positive | Literal["search"] = 1.0  #: search: of least cost, see `latticediff.hmc.search`
    target_acceptance: Fraction | Literal["search"] = 0.85
    integrator: str = "leapfrog"  #: or search
    jitter: Annotated[float, Field(ge=0, lt=1)] = 0.0
    mass: Positive | None = None  #: m_eff^2 of Fourier acceleration; not given: unit masses
    cluster: Count | None = None  #: Swendsen-Wang updates after each trajectory; not given: none
    search_observable: Annotated[str, AfterValidator(_primary)] | None = None  #: whose cost counts; not given: abs_m
    search_budget: Count | None = None  #: most force evaluations of each chain; not given: a million

    @field_validator("start")
    @classmethod
    def _known_start(cls, start: str) -> str:
        if start not in ("hot", "cold") and not PurePath(start).suffix:
            raise ValueError("expected hot, cold, or the path of an ensemble file such as ens.h5")
        return start

    @model_validator(mode="after")
    def _something_is_kept(self) -> Self:
        if self.thin > self.n_updates:
            raise ValueError(
                f"thin = {self.thin} keeps nothing of n_updates = {self.n_updates}; take thin <= n_updates"
            )
        return self

    @property
    def searches(self) -> list[str]:
        """The keys whose values the search is to find."""
        return [
            key for key in ("trajectory_length", "target_acceptance", "integrator") if getattr(self, key) == "search"
        ]

    @model_validator(mode="after")
    def _a_search_that_can_be(self) -> Self:
        if self.searches and self.cluster is not None:
            raise ValueError(
                f'{self.searches[0]} = "search" looks at trajectories alone; with cluster updates give a value'
            )
        if self.trajectory_length == "search" and self.jitter == 0:
            raise ValueError(
                'trajectory_length = "search" wants some jitter, e.g. 0.1, or a mode of that period never moves'
            )
        return self


class GateSection(Section):
    """What an ensemble must pass before anything is trained on it; see `latticediff.analysis.run_gates`."""

    n_sigma: Positive = 4.0
    n_tau: Positive = 100.0
    max_error: Positive = 0.02
    enforce: bool = True


class NetworkSection(OpenSection):
    """The score network of the registry; its other keys are that network's own options."""

    name: str = "ridge"


class RidgeOptions(Section):
    """Options of the ridge network, declared here so that a card is checked without importing torch."""

    features: Annotated[int, Field(ge=2, le=10**4)] = 24
    kernel_size: Width = 3
    hidden: Width = 64
    conditioned: bool = False
    ordered: bool = True  #: normal ordering of the features, see `latticediff.networks.ridge.normal_ordering`
    screened: bool = True  #: long waves are driven less by what is local, see `latticediff.networks.ridge.screening`

    @field_validator("kernel_size")
    @classmethod
    def _odd(cls, size: int) -> int:
        if size % 2 == 0:
            raise ValueError("expected an odd number, so that the kernel has a centre")
        return size


#: Options that are checked with the card, beside those of the entry points ``latticediff.network_options``.
NETWORK_OPTIONS: dict[str, type[Section]] = {"ridge": RidgeOptions, "conservative_ridge": RidgeOptions}


class EnsembleEntry(Section):
    """A further ensemble to train on; the file carries its own action and lattice."""

    file: Annotated[str, Field(min_length=1)]
    frequency: Positive = 1.0  #: how often a step takes it, relative to the card's own ensemble


class TrainingSection(Section):
    """Score matching; see `latticediff.training.TrainingPlan`.

    `init` names a model folder whose weights are the first ones: kernels are local, so those of a
    smaller lattice or a nearby coupling are a good start. `ensembles` names further ensembles: one
    network for several couplings and lattices, taken in turn as `schedule` says.
    """

    steps: CountFromZero = 4000  #: 0: the weights of `init` as they are, for this theory
    batch: Count = 256
    learning_rate: Positive = 3e-3
    warmup: Count = 200
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    target: Literal["stein", "mixed", "denoising", "force", "explicit", "implicit"] = "stein"
    w0: Annotated[float, Field(ge=0)] | Literal["fit"] = 0.2  #: of the mixed target; fit: least gradient noise
    weighting: Literal["likelihood", "sigma_squared", "uniform_log_sigma"] = "likelihood"
    levels: Literal["stratified", "antithetic", "independent"] = "stratified"
    trace: Literal["closed_form", "full", "coloured", "hutchinson"] = "closed_form"  #: of the implicit target
    trace_reach: Count | None = None  #: range of the score that coloured probes assume, in sites
    oracle: Literal["free", "empirical"] = "free"  #: of the explicit target: whose score is known
    clip: Positive = 1.0
    optimizer: Literal["adam", "soap"] = "adam"
    sigma_min: Positive = 0.02
    sigma_max_factor: Positive = 4.0
    sites: Literal["all", "odd"] = "all"  #: odd: of a checkerboard, the even ones integrated out; `action.OddSites`
    phase: Literal["symmetric", "broken"] = "symmetric"  #: expand around 0, or around +-<|m|>; see `gaussian.vacua`
    held_out: Fraction = 0.125
    init: str | None = None
    ensembles: list[EnsembleEntry] = []
    schedule: Literal["round_robin", "random", "all"] = "round_robin"
    checkpoint_every: Count = 500
    device: Device = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"  #: of the network in training, on CUDA
    micro_batch: Count | None = None  #: configurations at once; memory, not results; found by itself on a GPU
    data: Literal["auto", "resident", "stream"] = "auto"  #: on the device, or read from the file batch by batch
    watch_every: CountFromZero = 0  #: steps between measurements of ESS and score errors; 0: none
    watch_samples: Annotated[int, Field(ge=2, le=LARGEST)] = 256  #: proposals and held-out configurations of each
    early_stop: CountFromZero = 0  #: end after so many watches without improvement; 0: never
    keep: Literal["last", "best"] = "last"  #: the weights that become the model; the others go beside them
    tensorboard: bool = False

    @model_validator(mode="after")
    def _something_is_watched(self) -> Self:
        if not self.watch_every and (self.early_stop or self.keep == "best"):
            raise ValueError("early_stop and keep = best need watch_every > 0, e.g. watch_every = 500")
        return self

    @model_validator(mode="after")
    def _weights_come_from_somewhere(self) -> Self:
        if not self.steps and self.init is None:
            raise ValueError("steps = 0 leaves the network untrained; give init = a model folder, or steps")
        return self


class FinetuneSection(Section):
    """Training through the probability flow; see `latticediff.training.finetune.FineTuningPlan`.

    Device, further ensembles and held-out chains are those of `[training]`: what was held out there stays unseen.
    """

    steps: CountFromZero = 0  #: 0: a run stops at score matching
    objective: Literal["path", "kl", "log_variance"] = "path"
    reverse: Annotated[float, Field(ge=0, le=1)] = 0.5
    batch: Count = 16
    learning_rate: Positive = 1e-3
    warmup: Count = 20
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.98
    clip: Positive = 2.0
    optimizer: Literal["adam", "soap"] = "soap"
    integration_steps: Count = 8
    method: Literal["rk4", "dopri5", "adams5"] = "rk4"
    jitter: bool = True
    recompute: bool = False
    check_every: CountFromZero = 50
    n_check: Annotated[int, Field(ge=8, le=LARGEST)] = 512
    n_sigma: Positive = 4.0
    schedule: Literal["round_robin", "random", "all"] = "round_robin"
    checkpoint_every: Count = 50


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


class KernelSection(Section):
    """How proposals become updates, the same for both routes; see docs/proposals.md.

    `move` is independence (every proposal is fresh), partial (near the current field: `eps` with coloured or
    infrared noise, `sigma` with white noise) or block (`eps` within a cube of `block` sites a side). `tries`
    candidates for each update. `hmc` trajectories of `[hmc]` and `cluster` Swendsen-Wang updates come before it.
    """

    move: Literal["independence", "partial", "block"] = "independence"
    noise: Literal["coloured", "white", "infrared"] = "coloured"
    eps: Annotated[float, Field(gt=0, le=1)] = 1.0
    sigma: Positive | None = None
    block: Count | None = None
    tries: Count = 1
    hmc: CountFromZero = 0
    cluster: CountFromZero = 0

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


class AnalysisSection(Section):
    """Gamma method: S of Wolff's automatic window (hep-lat/0306017)."""

    s_tau: Positive = 1.5
