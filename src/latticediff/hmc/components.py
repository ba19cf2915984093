"""Trajectories of fields of several components: the compiled functions and their geometry."""

from typing import Any

import numpy as np

from ..action import ON
from ..lattice import volume
from ..types import Shape

__all__ = ["plan"]


def plan(action: ON, shape: Shape) -> tuple[Any, tuple[Any, ...]]:
    """Compiled functions for an O(N) theory on fields of `shape`, (N, *lattice), and the arguments that they share.

    Parameters
    ----------
    action : ON
    shape : tuple of int

    Returns
    -------
    compiled : tuple
        `latticediff._kernels.hmc.Compiled`.
    arguments : tuple
        Table of rows, rows of all components, elements of a row, of a buffer, parameters of the potential, c.

    Raises
    ------
    UserError
        Fields of another number of components.
    """
    from .._kernels import hmc as kernels
    from .._kernels import layout
    from .._kernels.compile import compiled_potential

    n, *lattice = shape
    action.check_components(shape)
    lanes = layout.lanes_for(lattice)
    value, slope, params = compiled_potential(*action.radial_potential())
    compiled = kernels.build(value, slope, len(lattice), lanes, n_components=n)
    rows, row, size = n * volume(lattice[:-1]), lattice[-1] * lanes, n * layout.buffer_size(lattice, lanes)
    table = layout.row_table(lattice, lanes)
    return compiled, (table, np.uint64(rows), np.uint64(row), np.uint64(size), params, action.hopping)
