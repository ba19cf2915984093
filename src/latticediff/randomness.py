"""What callers may give as ``rng=``: a NumPy generator, our streams, a seed, or nothing.

No global random state is read or set. Where nothing is given, a seed is taken from the operating system and said
(logger ``latticediff``, level WARNING, which prints to standard error unless the program has handlers of its own), so
that the numbers can be had again.
"""

import logging
import secrets
from typing import Any

import numpy as np

from .errors import UserError
from .streams import Streams

__all__ = ["Rng", "as_generator", "as_streams"]

#: a generator (used up as it goes), streams, a seed (the same numbers at every call), or None (a fresh seed, said)
Rng = np.random.Generator | Streams | int | np.integer[Any] | None

_log = logging.getLogger("latticediff")
_BITS = 48  #: of a fresh seed: few enough digits to be copied by hand


def as_generator(rng: Rng, purpose: str = "draw") -> np.random.Generator:
    """The generator that `rng` stands for.

    Parameters
    ----------
    rng : numpy.random.Generator, Streams, int or None
        A generator is returned as it is; of streams, the sequential generator called `purpose`; an int seeds a fresh
        ``numpy.random.default_rng``, so equal ints give equal numbers; None takes a seed and says which.
    purpose : str
        What is drawn, for streams and for the message.

    Returns
    -------
    numpy.random.Generator

    Raises
    ------
    UserError
        Anything else, or a negative seed.
    """
    if isinstance(rng, np.random.Generator):
        return rng
    if isinstance(rng, Streams):
        return rng.generator(purpose)
    return np.random.default_rng(_seed(rng, purpose))


def as_streams(rng: Rng) -> Streams:
    """The `Streams` that `rng` stands for, for kernels of chains.

    Parameters
    ----------
    rng : Streams, numpy.random.Generator, int or None
        Streams are returned as they are; an int is their seed; a generator gives that seed, by one draw of 63 bits;
        None takes a seed and says which.

    Returns
    -------
    Streams

    Raises
    ------
    UserError
        Anything else, or a negative seed.
    """
    if isinstance(rng, Streams):
        return rng
    if isinstance(rng, np.random.Generator):
        return Streams(int(rng.integers(2**63)))
    return Streams(_seed(rng, "chain"))


def _seed(rng: Any, purpose: str) -> int:
    if rng is None:
        seed = secrets.randbits(_BITS)
        _log.warning("%s: no rng was given; took seed %d, and rng=%d gives the same numbers", purpose, seed, seed)
        return seed
    if isinstance(rng, bool) or not isinstance(rng, (int, np.integer)):
        raise UserError(
            f"rng is a {type(rng).__name__}; expected a numpy.random.Generator (numpy.random.default_rng(seed)), a"
            " seed of at least 0, or None"
        )
    if rng < 0:
        raise UserError(f"rng = {int(rng)}; expected a seed of at least 0")
    return int(rng)
