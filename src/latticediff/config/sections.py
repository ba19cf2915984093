"""The sections of a run-card: names, types, bounds and defaults of every key.

Each is declared in the file of its subject and named here. `[action]` and `[network]` keep the keys that belong to
the action or network named there, which checks them itself.
"""

from .bounds import Section, Width
from .chains import (
    AnalysisSection,
    HMCChainSection,
    KernelSection,
    OdeSection,
    ProposalSection,
    SamplingSection,
    SdeSection,
)
from .classical import GateSection, HMCSection
from .learning import (
    NETWORK_OPTIONS,
    EnsembleEntry,
    FinetuneSection,
    NetworkSection,
    RidgeOptions,
    TrainingSection,
)
from .theory import ActionSection, LatticeSection, RunSection

__all__ = [
    "NETWORK_OPTIONS",
    "ActionSection",
    "AnalysisSection",
    "EnsembleEntry",
    "FinetuneSection",
    "GateSection",
    "HMCChainSection",
    "HMCSection",
    "KernelSection",
    "LatticeSection",
    "NetworkSection",
    "OdeSection",
    "ProposalSection",
    "RidgeOptions",
    "RunSection",
    "SamplingSection",
    "SdeSection",
    "Section",
    "TrainingSection",
    "Width",
]
