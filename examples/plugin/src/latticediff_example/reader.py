"""A reader of foreign ensembles: one configuration a line, comma-separated, sites in C order."""

import numpy as np

from latticediff.ensemble.readers import Foreign


def read_csv(path, shape=None):
    """``latticediff convert fields.csv --reader csv``; `shape` is that of the lattice."""
    rows = np.loadtxt(path, delimiter=",", ndmin=2)
    return Foreign(rows.reshape(len(rows), *shape))
