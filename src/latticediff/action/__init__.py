"""Lattice actions: couplings between sites plus a local potential, and what is known of them exactly.

Rooms: `contract` (what other rooms ask), `local` (the general form) and its `links`, `phi4` and its `conventions`,
`polynomial`, `modulated` and `sine_gordon` (other theories), `on` (several components), `external_field` and
`random_mass` (any of them with a field or a mass that differs from site to site; `disorder` draws and reads these
numbers, `site_terms` takes a theory apart), `wells` (their minima), `consistency` (what a kernel refuses), `free`
(closed forms of the Gaussian theory), `odd_sites` (half of a checkerboard, the other half integrated out),
`single_site` (its tables). Found by name through the entry-point group ``latticediff.actions``.
"""

from .contract import Action, Part, action_from_description
from .conventions import CONVENTIONS
from .external_field import ExternalField
from .free import free_log_z, free_propagator
from .local import LocalAction
from .modulated import Modulated
from .odd_sites import OddSites
from .on import ON
from .phi4 import Phi4
from .polynomial import Polynomial
from .random_mass import RandomMass
from .sine_gordon import SineGordon

__all__ = [
    "CONVENTIONS",
    "ON",
    "Action",
    "ExternalField",
    "LocalAction",
    "Modulated",
    "OddSites",
    "Part",
    "Phi4",
    "Polynomial",
    "RandomMass",
    "SineGordon",
    "action_from_description",
    "free_log_z",
    "free_propagator",
]
