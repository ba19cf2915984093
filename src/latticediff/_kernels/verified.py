"""The compiled generator against its definition, before anything is drawn with it.

A compiler may do to floating-point code what nobody foresaw, on a processor that nobody tried: a chain of wrong
random numbers looks like any other. So the first process that finds no mark for this machine code compares some
hundred numbers with `latticediff._kernels.oracle`, plain Python, and leaves the mark beside the compiled code; it costs
milliseconds.
"""

import contextlib
import hashlib
import pathlib
from collections.abc import Callable
from typing import Any

import llvmlite
import numba
import numpy as np

from ..errors import UserError
from . import oracle as reference
from .compile import machine, source_hash

__all__ = ["check_generator", "require_generator"]

KEY, CHAIN, UPDATE, SITES = 0x0123456789ABCDEF, 11, 2**33 + 5, 128
TOLERANCE = 1e-13  #: absolute and relative; a series and the library's logarithm and sine differ by less


def check_generator(fill_normals: Callable[..., Any], uniform: Callable[..., Any]) -> float:
    """Largest difference of compiled normals and uniforms from their definition, in units of the tolerance.

    Parameters
    ----------
    fill_normals, uniform : callable
        Those of `latticediff._kernels.random`.

    Returns
    -------
    float
        Above 1 the generator is wrong; infinite where a number is NaN.
    """
    normals = np.empty(SITES)
    fill_normals(normals, np.uint64(KEY), np.uint64(CHAIN), np.uint64(1), np.uint64(UPDATE))
    right = np.array(reference.normals(KEY, CHAIN, UPDATE, SITES))
    index = range(8)
    flat = np.array([uniform(np.uint64(KEY), np.uint64(i), np.uint64(CHAIN), np.uint64(UPDATE)) for i in index])
    flat_right = np.array([reference.uniform(KEY, i, CHAIN, UPDATE) for i in index])
    found, wanted = np.concatenate([normals, flat]), np.concatenate([right, flat_right])
    with np.errstate(invalid="ignore"):
        off = np.abs(found - wanted) / (TOLERANCE * (1 + np.abs(wanted)))
    return float(np.where(np.isnan(off), np.inf, off).max())


def require_generator(fill_normals: Callable[..., Any], uniform: Callable[..., Any]) -> None:
    """Check the generator unless a mark says that this machine code has been checked.

    Parameters
    ----------
    fill_normals, uniform : callable
        As in `check_generator`.

    Raises
    ------
    UserError
        The compiled numbers are wrong; nothing may be sampled here.
    """
    mark = _mark(fill_normals)
    if mark is not None and mark.exists():
        return
    off = check_generator(fill_normals, uniform)
    if not off <= 1:
        raise UserError(
            f"the random numbers compiled for {machine().split()[0]} differ from their definition by {off:.2g} times"
            f" the tolerance (Numba {numba.__version__}, llvmlite {llvmlite.__version__}); nothing may be sampled with"
            " them: use other versions of these, and please report it with the output of `latticediff selftest`"
        )
    if mark is not None:
        with contextlib.suppress(OSError):  # a cache that cannot be written: checked again next time
            mark.touch()


def _mark(dispatcher: Callable[..., Any]) -> pathlib.Path | None:
    folder = getattr(getattr(dispatcher, "_cache", None), "cache_path", None)
    if folder is None:
        return None
    words = f"{source_hash()} {machine()} {numba.__version__} {llvmlite.__version__}"
    return pathlib.Path(folder) / f"generator-{hashlib.sha256(words.encode()).hexdigest()[:16]}.checked"
