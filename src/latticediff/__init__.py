"""Exact diffusion-model samplers for lattice field theory, beside fast HMC on the same theory.

The rooms, in the order in which data flow: `action`, `hmc`, `ensemble`, `observables`, `analysis`, `gaussian`,
`networks`, `targets`, `diffusion`, `fine`, `model`, `training`, `metropolis`, `blocking`, `proposal`, `report`,
`config`, `build`, `job`, `hosts`, `testing`, `pool`, `study`, `slurm`, `stages`, `cli`. What can be plugged in is found
by `registry`; docs/extending.md shows one of each, docs/embedding.md how proposals serve in other programs. Importing
the package imports none of them, so neither torch nor numba.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

#: The short way to what a first script needs; each is imported when it is first used.
_PUBLIC = {
    "Ensemble": "ensemble",
    "HMC": "hmc",
    "Phi4": "action",
    "Streams": "streams",
    "UserError": "errors",
    "chain": "markov",
    "load": "hosts",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_PUBLIC[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
