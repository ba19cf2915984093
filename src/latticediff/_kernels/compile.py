"""How the kernels are compiled: flags, and templates specialised at run time.

A kernel is written once, as a template whose module globals (`NDIM`, `LANES`, the potential) are
compile-time constants. `specialise` binds other values to those names. Numba finds a cached
specialisation by its name alone, so the name carries every binding and a hash of the sources of
this room: an edited kernel is never served from an old cache. A potential that a user supplied
is not cached at all, since nothing here can see when its source changes.

Every specialisation has a name of its own, inner ones too. Numba tells functions of one name apart by a number that
counts the compilations of a process, so machine code cached by two processes can bring two functions of one name and
number, and a third process that loads both links the callers of one to the other: wrong results without a word.
"""

import functools
import hashlib
import pathlib
import types
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import llvmlite.binding
import numba
from numba.core.codegen import get_host_cpu_features
from numba.core.dispatcher import Dispatcher

from . import potentials
from .locking import lock_cache

if TYPE_CHECKING:
    from ..action import Action

__all__ = [
    "FLAGS",
    "SUMS",
    "cached",
    "cached_sums",
    "callable_potential",
    "compiled_potential",
    "inlined",
    "jit",
    "machine",
    "potential_name",
    "source_hash",
    "specialise",
]

#: What every kernel may do: round a product and the sum it goes into at once, where the machine can. Operations keep
#: the order in which they are written, so rounding tricks, differences of large numbers and tests for NaN mean what
#: they say.
FLAGS = frozenset({"contract"})
#: For long sums of terms of no order: they may be taken in any, which lets them vectorise. Asked for by name.
SUMS = FLAGS | {"reassoc", "nsz"}
Flags = frozenset[str]  #: LLVM's fast-math flags


def jit(function: Callable[..., Any], flags: Flags = FLAGS, **options: Any) -> Dispatcher:
    """`numba.njit` with the flags of this room."""
    return numba.njit(function, fastmath=set(flags), error_model="numpy", nogil=True, **options)


def inlined(function: Callable[..., Any]) -> Dispatcher:
    """Compile a function that is inlined into its callers, with their flags, before LLVM sees them.

    A loop around a call does not vectorise.
    """
    return numba.njit(function, fastmath=set(FLAGS), error_model="numpy", inline="always")


@functools.cache
def source_hash() -> str:
    """Twelve hexadecimal digits of the sources of this room."""
    digest = hashlib.sha256()
    for path in sorted(pathlib.Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


@functools.cache
def machine() -> str:
    """What machine code is compiled for, as Numba knows it: ``"znver4 +avx512f,..."``; the user may have lowered it."""
    config: Any = numba.config  # attributes that it makes itself
    name = config.CPU_NAME or llvmlite.binding.get_host_cpu_name()
    features = config.CPU_FEATURES
    if features is None:
        # as Numba: the host's features belong to the host's name; AVX is none of them where NUMBA_ENABLE_AVX is 0
        features = "" if config.CPU_NAME else get_host_cpu_features()
    return f"{name} {features}".strip()


def _identity(bindings: Mapping[str, Any]) -> str:
    """Hex digest of what is bound: constants by value, functions by their names, which are identities themselves."""
    words = []
    for key, value in sorted(bindings.items()):
        function = getattr(value, "py_func", value)
        named = f"{function.__module__}.{function.__qualname__}" if callable(function) else repr(value)
        words.append(f"{key}={named}")
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:12]


def specialise(
    template: Callable[..., Any],
    bindings: Mapping[str, Any],
    name: str | None = None,
    inner: bool = False,
    flags: Flags = FLAGS,
) -> Dispatcher:
    """Compile `template` with some of its module globals replaced.

    Parameters
    ----------
    template : function
        Plain Python function of this room.
    bindings : dict
        Global names and the constants, functions or dispatchers they stand for.
    name : str, optional
        Identity of the specialisation; the compiled code is cached on disk under it. Without a
        name nothing is cached, and a digest of the bindings is the identity.
    inner : bool
        Called by compiled code only: no wrapper for Python is compiled, and nothing cached.
    flags : frozenset of str
        LLVM's fast-math flags: `FLAGS`, or `SUMS`.

    Returns
    -------
    numba.core.dispatcher.Dispatcher
    """
    clone = types.FunctionType(
        template.__code__, {**template.__globals__, **bindings}, template.__name__, template.__defaults__
    )
    clone.__module__ = template.__module__
    clone.__qualname__ = f"{template.__name__}_{name or _identity(bindings)}_{source_hash()}"
    if inner:
        return jit(clone, flags, no_cpython_wrapper=True, no_cfunc_wrapper=True)
    if name is None:
        return jit(clone, flags)
    try:
        return lock_cache(jit(clone, flags, cache=True))
    except RuntimeError:  # no writable folder for the cache anywhere: slower to start, not wrong
        return jit(clone, flags)


def potential_name(value: Any, derivative: Any) -> str | None:
    """Cache name of a potential, or None for one that is not ours."""
    for name in ("phi4", "radial_phi4", "polynomial", "sine_gordon"):
        pair = getattr(potentials, f"{name}_value"), getattr(potentials, f"{name}_derivative")
        if (value, derivative) == pair:
            return name
    return None


def cached(function: Callable[..., Any]) -> Dispatcher:
    """Decorator: a compiled function of its own, cached on disk."""
    return specialise(function, {}, "shared")


def cached_sums(function: Callable[..., Any]) -> Dispatcher:
    """As `cached`, for functions whose sums may be taken in any order (`SUMS`)."""
    return specialise(function, {}, "shared", flags=SUMS)


def callable_potential(action: "Action") -> tuple[Dispatcher, Dispatcher, tuple[float, ...]]:
    """``(value, derivative, params)`` of an action: Numba dispatchers and a tuple of floats.

    Parameters reach the compiled loops as a tuple: an array could alias the fields, and would be
    read again at every site.
    """
    return compiled_potential(*action.numba_potential())


def compiled_potential(value: Any, derivative: Any, params: Iterable[float]) -> tuple[Any, Any, tuple[float, ...]]:
    """Two functions of a number as Numba dispatchers, and their parameters as a tuple of floats."""
    value, derivative = (f if isinstance(f, Dispatcher) else _compiled(f) for f in (value, derivative))
    return value, derivative, tuple(float(number) for number in params)


_compiled = functools.cache(jit)
