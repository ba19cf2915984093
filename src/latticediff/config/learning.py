"""Sections of a run-card on the network, its training and its fine-tuning."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from .bounds import LARGEST, Count, CountFromZero, Device, Fraction, OpenSection, Positive, Section, Width

__all__ = ["NETWORK_OPTIONS", "EnsembleEntry", "FinetuneSection", "NetworkSection", "RidgeOptions", "TrainingSection"]


class NetworkSection(OpenSection):
    """The score network of the registry; its other keys are that network's own options."""

    name: str = "ridge"


class SharedRidgeOptions(Section):
    """Options of both ridge networks, declared here so that a card is checked without importing torch."""

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


class RidgeOptions(SharedRidgeOptions):
    """Options of the ridge network."""

    inputs: Literal[2, 3] = 3  #: filters of the field that the features see, each a transform of an evaluation
    outputs: Literal[1, 2] = 2  #: filters through which they act, likewise


#: Options that are checked with the card, beside those of the entry points ``latticediff.network_options``.
NETWORK_OPTIONS: dict[str, type[Section]] = {"ridge": RidgeOptions, "conservative_ridge": SharedRidgeOptions}


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
    #: odd: of a checkerboard, the even ones integrated out (`action.OddSites`); coarse: half of these, the other half
    #: drawn from a learned law (`latticediff.fine`)
    sites: Literal["all", "odd", "coarse"] = "all"
    fine_steps: Count = 1200  #: of the law of the fine sites, with sites = coarse
    #: expand around 0, around +-<|m|> (`gaussian.vacua`), or around <m> alone, as always without phi -> -phi
    phase: Literal["symmetric", "broken", "single"] = "symmetric"
    held_out: Fraction = 0.125
    init: str | None = None
    ensembles: list[EnsembleEntry] = []  # noqa: RUF012  # pydantic gives every instance its own
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
