"""What a study measures: names in cards and files, and symbols on pages."""

from __future__ import annotations

__all__ = ["DERIVED", "KNOWABLE", "OBSERVABLES"]

#: of which there is an autocorrelation time
OBSERVABLES = {"m": "m", "abs_m": "|m|", "m2": "m²", "action": "S/V", "shell": "|φ_k|², lowest k"}
#: functions of averages
DERIVED = {"chi": "χ = V⟨m²⟩", "chi_abs": "V(⟨m²⟩ − ⟨|m|⟩²)", "binder": "Binder cumulant", "xi": "ξ, second moment"}
#: of what a card may give values that are known
KNOWABLE = (*(key for key in OBSERVABLES if key != "m"), *DERIVED)
