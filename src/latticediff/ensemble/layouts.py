r"""Layouts of published phi^4 ensembles by name: where the fields are, in which order, and which couplings they have.

A layout is a function ``layout(path) -> Published`` under the entry-point group ``latticediff.layouts``. What a file
says of its couplings is compared with the card; what it does not say is in its name, which must then be the published
one. All of these have the action of convention H, up to a constant for each site,

.. math:: S = \sum_x \Big[ -2\kappa \sum_\mu \phi_x \phi_{x+\mu} + (1 - 2\lambda) \phi_x^2 + \lambda \phi_x^4 \Big].

The sources are those that docs/embedding.md lists; the Schwinger-Dyson identity is checked of every file.
"""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from .. import registry
from ..action import Action, Phi4
from ..asking import asked
from ..errors import FileError, UserError
from ..types import PathLikeStr, Shape
from ..untrusted import printable
from .readers import Foreign, read_hdf5, read_npy, read_npz, read_numbers
from .stored import open_h5

__all__ = ["LAYOUTS", "Layout", "Published", "choose_layout"]


class Published(NamedTuple):
    """What a layout finds in a file."""

    fields: Foreign
    theory: Action  #: with the couplings that the file, or its name, tells


#: the contract of the entry-point group ``latticediff.layouts``
Layout = Callable[[PathLikeStr], Published]

_NUMBER = r"([0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?)"
_WOLFF = rf"k={_NUMBER}_l={_NUMBER}_"


def _named(path: PathLikeStr, pattern: str, example: str) -> tuple[str, ...]:
    """The groups of a pattern in the name of a file; `FileError` with the published name where it does not fit."""
    found = re.search(pattern, Path(path).name)
    if found is None:
        raise FileError(
            f"{printable(Path(path).name)} does not tell its couplings; the published file is called such as {example}"
        )
    return found.groups()


def _hopping(path: PathLikeStr, shape: Shape, kappa: float, lam: float, extent: int | None = None) -> Phi4:
    """The theory of fields (n, *lattice) on a lattice of equal extents; `FileError` if they are not such."""
    lattice = tuple(shape[1:])
    if not lattice or set(lattice) != {extent or lattice[0]}:
        told = f", and its name says L = {extent}" if extent else ""
        raise FileError(f"{path} has shape {shape}{told}; expected (n, L, L, ...) with equal extents")
    return Phi4.H(kappa, lam, len(lattice))


def read_2d_phi4_configs(path: PathLikeStr) -> Published:
    """``cfgs_wolff_fahmc_k=0.2705_l=0.022_16^2.npz``: array ``cfgs`` (n, L, L), scalars kappa and lambda in Greek.

    Raises
    ------
    FileError
        The file is damaged, or tells no couplings.
    """
    fields = read_npz(path, "cfgs")
    kappa, lam = (read_numbers(path, letter) for letter in ("\u03ba", "\u03bb"))
    if kappa is None or lam is None:
        kappa, lam = map(float, _named(path, _WOLFF, "cfgs_wolff_fahmc_k=0.2705_l=0.022_16^2.npz"))
    return Published(fields, _hopping(path, fields.phis.shape, kappa, lam))


def read_phi4_critical_configs(path: PathLikeStr) -> Published:
    """``phi4_3D_L16_kappa0.1923_lambda0.9.npy``: one array (n, L, ..., L); couplings in the name.

    Raises
    ------
    FileError
        The file is damaged, or its name tells no couplings, or other extents.
    """
    pattern = rf"phi4_([234])D_L(\d+)_kappa{_NUMBER}_lambda{_NUMBER}"
    ndim, extent, kappa, lam = _named(path, pattern, "phi4_2D_L16_kappa0.2705_lambda0.022.npy")
    fields = read_npy(path)
    theory = _hopping(path, fields.phis.shape, float(kappa), float(lam), int(extent))
    if theory.ndim != int(ndim):
        raise FileError(f"{path} has shape {fields.phis.shape}, and its name says {ndim} dimensions")
    return Published(fields, theory)


def read_dmassq(path: PathLikeStr) -> Published:
    """``cfgs_L16_k0.27_l0.022_10k.npy``: one array (n, L, L), a configuration of each chain; couplings in the name.

    Raises
    ------
    FileError
        The file is damaged, or its name tells no couplings, or other extents.
    """
    extent, kappa, lam = _named(path, rf"cfgs_L(\d+)_k{_NUMBER}_l{_NUMBER}_", "cfgs_L16_k0.27_l0.022_10k.npy")
    fields = read_npy(path)
    return Published(fields, _hopping(path, fields.phis.shape, float(kappa), float(lam), int(extent)))


def read_2d_phi4(path: PathLikeStr) -> Published:
    """``configs.npz``: array ``phi`` (n, L, L), float32, of one chain; scalars ``kappa`` and ``lambda``.

    Raises
    ------
    FileError
        The file is damaged, or has no couplings.
    """
    fields = read_npz(path, "phi")
    kappa, lam = (read_numbers(path, name) for name in ("kappa", "lambda"))
    if kappa is None or lam is None:
        raise FileError(f"{path} has no numbers kappa and lambda beside phi; layout 2d-phi4 has both")
    return Published(fields, _hopping(path, fields.phis.shape, kappa, lam))


def read_dm_for_phi4(path: PathLikeStr) -> Published:
    """A ``.jld2`` of one chain: array ``cfgs`` of size (L, ..., L, n), or a data set ``cfgs/000001`` for each.

    The couplings are the scalars ``kappa`` and ``lambda`` of the second kind, and in the name of the first,
    ``cfgs_wolff_fahmc_k=0.2705_l=0.022_16^2.jld2``.

    Raises
    ------
    FileError
        The file is damaged, or tells no couplings.
    """
    with open_h5(path) as file:
        each = "cfgs" not in file.datasets()
        told = [float(file.data(n, "f", ndim=0)[()]) for n in ("kappa", "lambda") if n in file.datasets()]
    fields = read_hdf5(path, "cfgs/*") if each else read_hdf5(path, "cfgs", axis="last")
    if len(told) == 2:
        kappa, lam = told
    else:
        kappa, lam = map(float, _named(path, _WOLFF, "cfgs_wolff_fahmc_k=0.2705_l=0.022_16^2.jld2"))
    return Published(fields, _hopping(path, fields.phis.shape, kappa, lam))


LAYOUTS: dict[str, Layout] = {
    "2d-phi4-configs": read_2d_phi4_configs,
    "phi4-critical-configs": read_phi4_critical_configs,
    "dmassq": read_dmassq,
    "2d-phi4": read_2d_phi4,
    "dm-for-phi4": read_dm_for_phi4,
}


def choose_layout(name: str) -> Layout:
    """The layout called `name`, of this package or of another.

    Raises
    ------
    UserError
        No such layout is installed.
    """
    return LAYOUTS.get(name) or partial(_of_another, registry.load("layouts", name), name)


def _of_another(layout: Layout, name: str, path: PathLikeStr) -> Published:
    found = asked(layout, "layout", f"{name!r} of {path}", layout, path)
    if not isinstance(found, Published):
        raise UserError(
            f"layout {name!r} returned a {type(found).__name__}; the contract latticediff.ensemble.layouts.Layout wants"
            " a Published(fields, theory)"
        )
    return found
