r"""A conformance kit for what other packages plug in: does it keep its contract, numbers included?

Each ``check_*`` takes the thing itself, installed or not, and raises `ContractError` with one line for every fault; it
is an `AssertionError`, so that any test runner counts it as a failure. None is needed: the kit imports neither pytest
nor torch. ``latticediff plugins check`` tries the same on what is installed, with examples of its own.

Rooms: `faults` (how a fault is said), `actions`, `proposals` with `one_site` (a density by quadrature), `kernels` with
`stationarity`, `observables`.
"""

from .actions import check_action
from .faults import ContractError
from .kernels import check_kernel
from .observables import check_observable
from .proposals import check_proposal

__all__ = ["ContractError", "check_action", "check_kernel", "check_observable", "check_proposal"]
