"""Does this machine compute right? The compiled code against slow definitions and closed forms, on this processor."""

import math
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .._kernels import oracle as reference
from .._kernels.compile import machine
from .._kernels.random import fill_normals, fill_pairs, fill_uniforms, uniform
from .._kernels.verified import check_generator
from ..action import Phi4, Polynomial, free_propagator
from ..errors import UserError
from ..hmc import HMC
from ..hmc.integrators import schedule
from ..streams import Streams
from ..types import Description

__all__ = ["Row", "SelfTest", "selftest"]

N_SIGMA = 6  # a machine that is right fails one statistical row with probability 2e-9
MODEL = "phi4-A-L8"


@dataclass(frozen=True)
class Row:
    """One comparison; `off` is the difference found, in units of what is allowed."""

    name: str
    off: float
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether the difference is allowed; NaN is not."""
        return self.off <= 1


@dataclass(frozen=True)
class SelfTest:
    """What `selftest` found, and on which machine."""

    machine: str
    versions: dict[str, str]
    rows: tuple[Row, ...]

    def to_text(self) -> str:
        """A table for people."""
        lines = [f"machine    {self.machine}"]
        lines.append("versions   " + ", ".join(f"{name} {version}" for name, version in self.versions.items()))
        for row in self.rows:
            said = "passed" if row.passed else "FAILED"
            lines.append(f"{said}     {row.name}: {row.off:.2g} of what is allowed ({row.seconds:.1f} s)")
        return "\n".join(lines)

    def to_dict(self) -> Description:
        """JSON-able; `off` is None where it is not finite."""
        rows = [
            {"name": r.name, "off": r.off if math.isfinite(r.off) else None, "passed": r.passed, "seconds": r.seconds}
            for r in self.rows
        ]
        return {"machine": self.machine, "versions": self.versions, "rows": rows}

    def require_passed(self) -> None:
        """Raise `UserError` if a row failed."""
        failed = [row.name for row in self.rows if not row.passed]
        if failed:
            raise UserError(
                f"wrong results on this machine: {', '.join(failed)}; sample nothing on it, and report this"
            )


def _generator() -> float:
    """Normals and uniforms, tested as at every first use, and the arrays of uniforms, whose bits have to be equal."""
    key, chain, update = 0xFEDCBA9876543210, 3, 2**32 + 1
    first, second, both = np.empty(18), np.empty(17), np.empty(35)
    fill_pairs(first, second, np.uint64(key), np.uint64(chain), np.uint64(update))
    fill_uniforms(both, np.uint64(key), np.uint64(chain), np.uint64(update))
    right = [reference.uniforms(key, i, chain, update) for i in range(18)]
    expected = np.array([pair[0] for pair in right] + [pair[1] for pair in right[:17]])
    if not (np.array_equal(np.concatenate([first, second]), expected) and np.array_equal(both, expected)):
        return math.inf
    return check_generator(fill_normals, uniform)


def _trajectories() -> float:
    """HMC trajectories on five lattices against plain Python, site by site; differences in units of 1e-12.

    And with links on two, against NumPy.
    """
    differences, rng = [], np.random.default_rng(4)
    for shape in ((7,), (4, 6), (3, 13), (3, 2, 4), (2, 3, 2, 3)):
        action = Phi4.A(-0.7 * len(shape), 1.3, len(shape))
        phi, momentum = rng.normal(size=(2, 5, *shape))
        end, back, _ = HMC(action, 0.07, 3).integrate(phi, momentum)
        kicks, drifts = schedule("leapfrog", 0.07, 3)
        for c in range(5):
            right = reference.trajectory(action, phi[c], momentum[c], kicks, drifts)
            differences += [np.abs(a - b).max() for a, b in zip((end[c], back[c]), right, strict=True)]
    linked = Polynomial([1.0, 0.5], (0.1, 1.2, -0.1, 0.3), 2, [((2, -3), 0.2), ((1, 1), -0.3)])
    for shape in ((4, 6), (3, 13)):
        phi, momentum = rng.normal(size=(2, 5, *shape))
        end, back, _ = HMC(linked, 0.07, 3).integrate(phi, momentum)
        for kick, drift in zip(*schedule("leapfrog", 0.07, 3), strict=False):  # the last kick has no drift after it
            momentum = momentum + kick * linked.force(phi)
            phi = phi + drift * momentum
        momentum = momentum + schedule("leapfrog", 0.07, 3)[0][-1] * linked.force(phi)
        differences += [np.abs(end - phi).max(), np.abs(back - momentum).max()]
    return np.max(differences) / 1e-12  # NaN stays NaN


def _chains() -> float:
    """Three HMC updates with their draws and decisions, against plain Python; differences in units of 1e-11."""
    differences, rng, streams, n_updates = [], np.random.default_rng(6), Streams(7), 3
    momenta, coins, jitters = (int(streams.key(purpose)[0]) for purpose in ("momenta", "accept", "jitter"))
    for shape in ((4, 6), (3, 13)):  # four chains a group, and one
        action, start = Phi4.A(-1.4, 1.3), 0.5 * rng.normal(size=(5, *shape))
        kernel, volume = HMC(action, 0.2, 2, jitter=0.2), math.prod(shape)
        _, block = kernel.advance(kernel.start(start), streams, n_updates)
        for chain, phi in enumerate(start):
            for update in range(n_updates):
                step = 0.2 * (1 + 0.2 * (2 * reference.uniform(jitters, 0, 0, update) - 1))
                p = reference.normals(momenta, chain, update, -(-volume // 4) * 4)[:volume].reshape(shape)
                end, back = reference.trajectory(action, phi, p, *schedule("leapfrog", step, 2))
                change = reference.action(action, end) - reference.action(action, phi)
                change += 0.5 * ((back**2).sum() - (p**2).sum())
                if math.log(reference.uniform(coins, 0, chain, update)) < -change:
                    phi = end
                differences += [np.abs(block.phi[update, chain] - phi).max()]
                differences += [abs(block.info["delta_h"][update, chain] - change)]
    return np.max(differences) / 1e-11


def _free_field() -> float:
    """<phi^2> of the free field by HMC against its propagator, in units of `N_SIGMA` errors of 64 chains."""
    action, shape, streams = Phi4.A(0.8, 0.0), (8, 8), Streams(3)
    kernel = HMC(action, 0.25, 6)
    state = kernel.start(0.3 * streams.generator("start").standard_normal((64, *shape)))
    state, _ = kernel.advance(state, streams.child("warmup"), 100, 100)
    _, block = kernel.advance(state._replace(update=0), streams.child("hmc"), 400, 1)
    means = (block.phi**2).mean(axis=(0, 2, 3))
    error = means.std(ddof=1) / math.sqrt(len(means))
    return abs(means.mean() - free_propagator(action, shape).mean()) / error / N_SIGMA


def _flow() -> float:
    """The compiled flow of a shipped model against plain torch: log q of the same draws, in units of 1e-3."""
    from ..model.storage import load_model
    from ..proposal import OdeProposal

    model = load_model(MODEL)
    draws = [OdeProposal(model, 8, compiled=c).draw(16, np.random.default_rng(1)) for c in (True, False)]
    fast, slow = draws
    return np.max([np.abs(fast.log_q - slow.log_q).max(), np.abs(fast.phi - slow.phi).max()]) / 1e-3


def _weights() -> float:
    """<phi^2> of a shipped theory by weighted draws against HMC, in units of `N_SIGMA` joint errors."""
    from ..model.storage import load_model
    from ..proposal import OdeProposal

    model, streams = load_model(MODEL), Streams(5)
    draw = OdeProposal(model, 12).draw(2000, streams.generator("draw"))
    log_weight = -model.action(draw.phi) - draw.log_q
    w = np.exp(log_weight - log_weight.max())
    values = (draw.phi**2).mean(axis=(1, 2))
    mean = (w * values).sum() / w.sum()
    error = math.sqrt((w**2 * (values - mean) ** 2).sum()) / w.sum()
    kernel = HMC(model.action, 0.1, 10)
    state = kernel.start(0.3 * streams.generator("start").standard_normal((64, *model.shape)))
    state, _ = kernel.advance(state, streams.child("warmup"), 300, 300)
    _, block = kernel.advance(state._replace(update=0), streams.child("hmc"), 1000, 10)
    means = (block.phi**2).mean(axis=(0, 2, 3))
    return abs(mean - means.mean()) / math.hypot(error, means.std(ddof=1) / math.sqrt(len(means))) / N_SIGMA


CHECKS: dict[str, Callable[[], float]] = {
    "random numbers against their definition": _generator,
    "HMC trajectories against plain Python": _trajectories,
    "HMC chains against plain Python": _chains,
    "free field by HMC against its closed form": _free_field,
    "compiled flow against plain torch": _flow,
    "weighted draws of a model against HMC": _weights,
}


def selftest() -> SelfTest:
    """Run every check on this machine; half a minute where nothing is compiled yet.

    Returns
    -------
    SelfTest
    """
    import llvmlite
    import numba
    import torch

    from ..provenance import version

    rows = []
    for name, check in CHECKS.items():
        began = time.perf_counter()
        rows.append(Row(name, float(check()), time.perf_counter() - began))
    versions = {
        "latticediff": version(),
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "Numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "torch": f"{torch.__version__} ({torch.backends.cpu.get_cpu_capability()})",
    }
    return SelfTest(f"{platform.machine()}, compiled for {_in_short(machine())}", versions, tuple(rows))


def _in_short(target: str) -> str:
    """``"znver4 with avx2, fma"``: the processor's name and the features that decide how floats are rounded."""
    name, _, features = target.partition(" ")
    known = [f for f in ("sse4.2", "avx", "avx2", "fma", "avx512f", "neon") if f"+{f}" in features.split(",")]
    return f"{name} with {', '.join(known)}" if known else name
