"""Stages that put densities to use, under one name: free energies, and averages at other couplings."""

from .free_energy import FreeEnergyResult, measure_free_energy
from .reweight import Reweighting, reweight
from .targets import refined, target_action

__all__ = ["FreeEnergyResult", "Reweighting", "measure_free_energy", "refined", "reweight", "target_action"]
