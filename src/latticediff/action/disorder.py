"""Numbers that differ from site to site, h_x and r_x: drawn by seed, read from a file, checked."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import real_array
from ..errors import UserError
from ..types import Extents, FloatArray
from ..untrusted import regular_file
from .contract import Part, action_from_options, check_options

__all__ = ["WIDEST", "Kind", "checked", "from_options", "normal_values"]

WIDEST = 1e100  #: of normal numbers


class Kind(NamedTuple):
    """What such numbers are called in messages, and the stream of a seed that they are drawn from."""

    name: str  #: of the theory, in the registry
    what: str
    symbol: str
    within: tuple[str, ...]  #: names of theories that cannot be the one below
    stream: int = 0  #: so that one seed for two kinds does not make the one a multiple of the other


def normal_values(shape: Extents, width: float, seed: int, kind: Kind) -> FloatArray:
    """Independent normal numbers of standard deviation `width`, (*lattice), float64; see `external_field.normal_field`.

    Raises
    ------
    UserError
        A width that is not a finite number of at least 0, or a negative seed.
    """
    if not 0 <= width <= WIDEST:
        raise UserError(f"the {kind.what} has width = {width}; expected a number from 0 to {WIDEST:g}")
    if isinstance(seed, bool) or int(seed) != seed or seed < 0:
        raise UserError(f"the {kind.what} has seed = {seed!r}; expected an integer of at least 0")
    bits = np.random.Philox(np.random.SeedSequence(int(seed), spawn_key=(kind.stream,) if kind.stream else ()))
    return width * np.random.Generator(bits).standard_normal(tuple(shape))


def checked(values: ArrayLike, of: Any, kind: Kind) -> FloatArray:
    """A read-only copy of these numbers as float64, if they fit the theory `of`; by a `UserError` if they do not."""
    if hasattr(of, "components"):
        raise UserError(f"{of!r} takes no {kind.what}: {kind.symbol}_x is a number, and its fields have components")
    if getattr(of, "name", None) in kind.within or isinstance(of, Part):
        raise UserError(f"{of!r} takes no {kind.what}; add it to the theory on the whole lattice, once")
    own = real_array(values, kind.what).copy()
    if own.ndim != of.ndim:
        raise UserError(f"the {kind.what} has shape {own.shape}; the theory {of!r} has {of.ndim} dimensions")
    if not np.isfinite(own).all():
        raise UserError(f"the {kind.what} has values that are not finite; expected a number for each site")
    own.setflags(write=False)
    return own


def from_options(options: Mapping[str, Any], ndim: int, shape: Extents, kind: Kind) -> tuple[Any, FloatArray]:
    """Theory and numbers that the keys of a card name: ``of``, and ``width`` with ``seed``, or ``file``.

    Raises
    ------
    UserError
        An unknown or missing key, both kinds of numbers at once, or a file that holds no such array.
    """
    check_options(options, ("of", "width", "seed", "file"), kind.name)
    action = _theory(options["of"], ndim, shape, kind)
    drawn = [key for key in ("width", "seed") if options.get(key) is not None]
    if (options.get("file") is not None) == bool(drawn) or len(drawn) == 1:
        raise UserError(
            f"{kind.name} has {', '.join(drawn) or 'no field'}{' beside file' if options.get('file') else ''};"
            f' expected width and seed, of normal {kind.symbol}_x, or file = "{kind.symbol}.npy"'
        )
    if drawn:
        return action, normal_values(shape, float(options["width"]), options["seed"], kind)
    return action, _read(options["file"], shape, kind)


def _theory(options: Any, ndim: int, shape: Extents, kind: Kind) -> Any:
    """The theory of the keys of ``of``; errors say that they are of these."""
    inner = dict(options)
    name = inner.pop("name", "phi4")
    if name == kind.name:
        raise UserError(
            f"of is an {name} again; expected a theory without a field: all of {kind.symbol} goes into one"
            if kind.name == "external_field"
            else f"of is a {name} again; expected a theory without one: all of {kind.symbol} goes into one"
        )
    if name in kind.within:
        raise UserError(f"of is an {name}; expected the order external_field, of random_mass, of a theory")
    try:
        return action_from_options(name, inner, ndim, shape)
    except KeyError as exc:
        raise UserError(f"of ({name}) lacks {exc.args[0]}") from None
    except (UserError, TypeError) as exc:
        raise UserError(f"of ({name}): {exc}") from None


def _read(path: str, shape: Extents, kind: Kind) -> FloatArray:
    """Numbers of a ``.npy`` file."""
    regular_file(path, f"a .npy file of the {kind.what}")
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        values = None
    if not isinstance(values, np.ndarray):
        raise UserError(f"{path} is no .npy file; expected one array of {kind.symbol}, written by numpy.save")
    if values.shape != tuple(shape):
        raise UserError(f"{path} holds an array of shape {values.shape}; the lattice is {tuple(shape)}")
    return values
