"""Sections of a run-card on the reference chains and the gate that they must pass."""

from pathlib import PurePath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from ..observables.table import OBSERVABLES, installed_names
from .bounds import Count, Fraction, Kernels, Positive, Section

__all__ = ["GateSection", "HMCSection"]


def _primary(name: str) -> str:
    """The name of an observable of configurations, which has a tau_int."""
    known = [*(name for name, entry in OBSERVABLES.items() if not entry.derived), *installed_names()]
    if name not in known:
        raise ValueError(f"expected one of {', '.join(known)}")
    return name


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class HMCSection(Section):
    """The reference chains, which are the training data too. Counts are updates (trajectories) per chain."""

    n_chains: Count = 64
    #: "hot", "cold", a number (the value of all sites, in one of several phases), or the path of an ensemble file,
    #: whose last configurations are taken
    start: str | Annotated[float, Field(allow_inf_nan=False)] = "hot"
    n_warmup: Count = 1000
    n_updates: Count = 10_000
    thin: Count = 10
    trajectory_length: Positive | Literal["search"] = 1.0  #: search: of least cost, see `latticediff.hmc.search`
    target_acceptance: Fraction | Literal["search"] = 0.85
    integrator: str = "leapfrog"  #: or search
    jitter: Annotated[float, Field(ge=0, lt=1)] = 0.0
    mass: Positive | None = None  #: m_eff^2 of Fourier acceleration; not given: unit masses
    cluster: Count | None = None  #: Swendsen-Wang updates after each trajectory; not given: none
    kernels: Kernels | None = None  #: installed kernels, an update of each after each trajectory; not given: none
    search_observable: Annotated[str, AfterValidator(_primary)] | None = None  #: whose cost counts; not given: abs_m
    search_budget: Count | None = None  #: most force evaluations of each chain; not given: a million

    @field_validator("start")
    @classmethod
    def _known_start(cls, start: str | float) -> str | float:
        if isinstance(start, str) and _is_number(start):
            raise ValueError(f"is text; write the number without quotes, start = {start}")
        if isinstance(start, str) and start not in ("hot", "cold") and not PurePath(start).suffix:
            raise ValueError("expected hot, cold, a number, or the path of an ensemble file such as ens.h5")
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
        if self.searches and self.kernels:
            raise ValueError(f'{self.searches[0]} = "search" looks at trajectories alone; with kernels give a value')
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
