"""The run-card of the conditioned model of a size, and where its files lie.

Families as in docs/what-works.md: the odd sites of a checkerboard, eight features, couplings told to the network. Each
size begins with the score-matched weights of the one before.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import tomli_w

from ..config import parse_card

if TYPE_CHECKING:
    from ..config import Card
    from ..types import PathLikeStr
    from .card import CriticalCard, PointSection, SizeSection

__all__ = ["Place", "cards_of"]

THIN, CHAINS, WARMUP = 5, 64, 400  # updates between configurations of L = 16, more in proportion to L


class Place(NamedTuple):
    """Where a study keeps what belongs to one point and size."""

    root: Path
    label: str  #: ``lam0.022-L8``

    @classmethod
    def of(cls, out: PathLikeStr, point: PointSection, size: SizeSection) -> Place:
        """Below the folder `out`."""
        return cls(Path(out), f"{point.label}-L{size.L}")

    @property
    def folder(self) -> Path:
        """Of the training."""
        return self.root / "models" / self.label

    @property
    def score(self) -> Path:
        """The model before fine-tuning, with which the next size begins."""
        return self.folder / "score"

    @property
    def model(self) -> Path:
        """The model that draws."""
        return self.folder / "model"

    @property
    def untuned(self) -> Path:
        """Why the model before fine-tuning is the one that draws, where fine-tuning gained nothing."""
        return self.folder / "fine-tuning-gained-nothing.txt"

    def data(self, kappa: float) -> Path:
        """Configurations to train on."""
        return self.folder / f"data-{kappa:g}.h5"

    def fields(self, kappa: float) -> Path:
        """What was measured of draws and chains at a coupling."""
        return self.root / "fields" / f"{self.label}-{kappa:.10g}.npz"


def cards_of(
    card: CriticalCard, point: PointSection, size: SizeSection, before: Place | None, seed: int
) -> dict[float, Card]:
    """Run-cards of a size by coupling, which differ in it alone; the last, nearest to the critical one, is the model's.

    Parameters
    ----------
    card : CriticalCard
    point : PointSection
    size : SizeSection
    before : Place, optional
        Whose score-matched weights are the first.
    seed : int
    """
    kappas = card.kappas(point, size)
    thin = max(THIN, THIN * size.L // 16)
    updates = thin * -(-size.data // CHAINS)
    found = {}
    for number, kappa in enumerate(kappas):
        data: dict[str, Any] = {
            "run": {"name": f"{point.label}-L{size.L}", "seed": seed + number},
            "action": {"convention": "H", "kappa": kappa, "lam": point.lam},
            "lattice": {"shape": [size.L, size.L]},
            "hmc": {
                "n_chains": CHAINS,
                "start": "hot",  # both signs of m from the beginning
                "n_warmup": WARMUP,
                "n_updates": updates,
                "thin": thin,
                "jitter": 0.1,
                "cluster": 1,
            },
            "network": {"features": size.features, "inputs": 2, "outputs": 1, "conditioned": True},
            "training": {
                "sites": "odd",
                "steps": size.training_steps,
                "batch": size.batch,
                "learning_rate": size.learning_rate,
                "optimizer": "soap",
                "warmup": min(50, size.training_steps // 4),
                "ema_decay": 0.99,
                "sigma_min": 0.03,
                "sigma_max_factor": 2.0,
                "schedule": "round_robin",
                **({} if before is None else {"init": str(before.score)}),
            },
            "finetune": {
                "steps": size.finetune_steps,
                "batch": size.finetune_batch,
                "learning_rate": size.finetune_learning_rate,
                "integration_steps": 8,
                "check_every": 100,
                "n_check": 512,
                "schedule": "all",  # every coupling in every step
            },
            "sampling": {
                "n_forward": 1000,
                "ode": {"steps": size.steps, "method": "adams5", "grid": "optimised"},
            },
        }
        found[kappa] = parse_card(tomli_w.dumps(data), source=data["run"]["name"])
    return found
