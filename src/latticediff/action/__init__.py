"""Lattice actions: nearest-neighbour hopping plus a local potential, and what is known of them exactly.

Rooms: `local` (the general form and the `Action` protocol), `phi4` (named conventions of phi^4),
`free` (closed forms of the Gaussian theory). Found by name through the entry-point group
``latticediff.actions``.
"""

from .free import free_log_z, free_propagator
from .local import Action, LocalAction
from .phi4 import CONVENTIONS, Phi4

__all__ = ["CONVENTIONS", "Action", "LocalAction", "Phi4", "free_log_z", "free_propagator"]
