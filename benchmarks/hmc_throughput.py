"""HMC throughput: this package, plain NumPy, BlackJAX, and BlackJAX on bijx's action, in one run.

Two-dimensional phi^4, float64, the same step size, steps and chains for all, on the same cores (the
process is bound to them before anything starts threads). Everything counts: momenta, energies, accept
step, and the measurement of m at every update. bijx has no HMC of its own; its row is BlackJAX's HMC
driven by bijx's phi^4 action and its gradient. Samplers that are not installed are left out, with a
line on stderr.

`ns_per_site_step_core` is wall time x threads / (sites x chains x updates x leapfrog steps);
`gradients_per_second` counts the n_leapfrog gradients that a trajectory needs, per lattice and chain;
`ess_abs_m_per_second` is updates x chains / (2 tau_int(|m|)) per second. The limit is what the loads
and stores of one step cost at the speed of a triad in first-level cache on this machine.

    python benchmarks/hmc_throughput.py [--json] [--L 8 32 128] [--threads 1] [--seconds 2]
"""

import argparse
import importlib.util
import json
import os
import sys
import time

N_LEAPFROG, STEP_SIZE = 16, 1 / 16
LAM = {8: 6.008, 16: 4.98, 32: 4.572, 64: 4.398, 128: 4.32}  # xi = L / 4 at m2 = -4
ACCESSES = 8  # doubles moved per site and step: five of phi, p twice, new phi


def chains_for(extent, threads):
    """About 16384 sites a thread: a batch that every sampler can vectorise over."""
    return max(2, 16384 // extent**2) * threads


def compiled_batch(extent, threads, n_chains):
    """One call = a block of updates of `latticediff`; returns the function and m as (n_updates, n_chains)."""
    import numba
    import numpy as np

    from latticediff.action import Phi4
    from latticediff.hmc import HMC
    from latticediff.streams import Streams

    numba.set_num_threads(threads)
    kernel = HMC(Phi4.A(-4.0, LAM[extent]), STEP_SIZE, N_LEAPFROG)
    state = kernel.start(np.random.default_rng(1).normal(size=(n_chains, extent, extent)) * 0.3)
    streams = Streams(1)

    def block(n_updates):
        nonlocal state
        state, done = kernel.advance(state, streams, n_updates)
        return done.phi.mean(axis=(2, 3))

    return block


def numpy_batch(extent, threads, n_chains):
    """The straightforward version: rolled arrays, all chains at once."""
    import numpy as np

    from latticediff.action import Phi4

    action = Phi4.A(-4.0, LAM[extent])
    rng = np.random.default_rng(1)
    phi = rng.normal(size=(n_chains, extent, extent)) * 0.3

    def update():
        nonlocal phi
        momentum = rng.normal(size=phi.shape)
        before = action(phi) + 0.5 * (momentum**2).sum(axis=(1, 2))
        new = phi
        momentum = momentum + 0.5 * STEP_SIZE * action.force(new)
        for k in range(N_LEAPFROG):
            new = new + STEP_SIZE * momentum
            momentum = momentum + (STEP_SIZE if k < N_LEAPFROG - 1 else STEP_SIZE / 2) * action.force(new)
        after = action(new) + 0.5 * (momentum**2).sum(axis=(1, 2))
        taken = np.log(rng.random(n_chains)) < before - after
        phi = np.where(taken[:, None, None], new, phi)
        return phi.mean(axis=(1, 2))

    return lambda n_updates: np.array([update() for _ in range(n_updates)])


def blackjax_batch(extent, threads, n_chains, bijx_action=False):
    """BlackJAX HMC, vmapped over chains and scanned over updates inside one compiled function."""
    import blackjax
    import jax
    import jax.numpy as jnp
    import numpy as np

    jax.config.update("jax_enable_x64", True)
    lam = LAM[extent]
    if bijx_action:
        from bijx.lattice.scalar import phi4_term

        def log_density(phi):
            return -jnp.sum(phi4_term(phi, -4.0, lam))
    else:

        def log_density(phi):
            near = jnp.roll(phi, 1, 0) + jnp.roll(phi, 1, 1)
            return -jnp.sum(-2 * phi * near + phi**2 * (lam * phi**2))

    from latticediff.action import Phi4

    probe = np.random.default_rng(0).normal(size=(extent, extent))
    np.testing.assert_allclose(-float(log_density(jnp.asarray(probe))), Phi4.A(-4.0, lam)(probe), rtol=1e-10)
    hmc = blackjax.hmc(log_density, STEP_SIZE, jnp.ones(extent * extent), N_LEAPFROG)
    step = jax.vmap(hmc.step)
    phi = jnp.asarray(np.random.default_rng(1).normal(size=(n_chains, extent, extent)) * 0.3)
    state, key = jax.vmap(hmc.init)(phi), jax.random.key(1)

    @jax.jit
    def scan(state, keys):
        def one(state, key):
            state, _ = step(jax.random.split(key, n_chains), state)
            return state, state.position.mean(axis=(1, 2))

        return jax.lax.scan(one, state, keys)

    def block(n_updates):
        nonlocal state, key
        key, sub = jax.random.split(key)
        state, m = scan(state, jax.random.split(sub, n_updates))
        return np.asarray(m)

    return block


SAMPLERS = {
    "latticediff": (compiled_batch, ()),
    "numpy": (numpy_batch, ()),
    "blackjax": (blackjax_batch, ("jax", "blackjax")),
    "bijx": (lambda *a: blackjax_batch(*a, bijx_action=True), ("jax", "blackjax", "bijx")),
}


def measure(batch, extent, threads, seconds):
    """One row; blocks have one size, so that nothing is compiled while the clock runs."""
    import numpy as np

    from latticediff.analysis import tau_int

    n_chains = chains_for(extent, threads)
    block = batch(extent, threads, n_chains)
    block(4)
    block(4)  # first touch and compilation are over
    began = time.perf_counter()
    block(4)
    n_updates = max(1, int(0.0025 * seconds / max(time.perf_counter() - began, 1e-6) * 4))
    block(n_updates)
    series, times = [], []
    while sum(times) < seconds or len(times) < 4:
        began = time.perf_counter()
        series.append(block(n_updates))
        times.append(time.perf_counter() - began)
    # the best of a few hundred short blocks: other work on the machine only ever adds
    updates, best = n_updates * n_chains, min(times)
    tau = tau_int(np.abs(np.concatenate(series)).T)
    return {
        "L": extent,
        "threads": threads,
        "n_chains": n_chains,
        "ns_per_site_step_core": best * threads / (updates * extent**2 * N_LEAPFROG) * 1e9,
        "gradients_per_second": updates * N_LEAPFROG / best,
        "ess_abs_m_per_second": updates / (2 * tau.value) / best,
        "tau_int_abs_m": [tau.value, tau.error],
    }


def cache_limit():
    """ns for the loads and stores of one site and step, at the speed of a triad of 8 KiB arrays."""
    import numba
    import numpy as np

    @numba.njit(fastmath=True)
    def triad(a, b, c, n):
        for k in range(n):
            s = 1.0 + k
            for i in range(a.size):
                a[i] = b[i] + s * c[i]

    a, b, c = np.ones((3, 1024))
    triad(a, b, c, 2)
    best = min(_clock(triad, a, b, c, 20000) for _ in range(7))
    return best / (20000 * a.size) * 1e9 * ACCESSES / 3


def _clock(function, *arguments):
    began = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON row per line")
    parser.add_argument("--L", type=int, nargs="+", default=[8, 32, 128], choices=sorted(LAM))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2.0, help="per row")
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS), choices=list(SAMPLERS))
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if options.threads > len(cores):
        parser.error(f"--threads is {options.threads}; this machine has {len(cores)} cores")
    os.sched_setaffinity(0, cores[: options.threads])
    limit = cache_limit()

    for extent in options.L:
        rows = {}
        for name in options.samplers:
            batch, needs = SAMPLERS[name]
            missing = [module for module in needs if importlib.util.find_spec(module) is None]
            if missing:
                print(f"{name}: left out, {', '.join(missing)} not installed", file=sys.stderr)
                continue
            rows[name] = row = {"sampler": name, **measure(batch, extent, options.threads, options.seconds)}
            row["limit_ns"] = limit
            ours = rows.get("latticediff", row)
            row["times_slower_than_latticediff"] = ours["gradients_per_second"] / row["gradients_per_second"]
            if options.json:
                print(json.dumps(row), flush=True)
            else:
                print(
                    f"L={extent:<4d} {name:12s} {row['ns_per_site_step_core']:8.2f} ns/site/step/core"
                    f"  ({row['ns_per_site_step_core'] / limit:6.1f} x limit of {limit:.2f})"
                    f"  {row['gradients_per_second']:11.0f} gradients/s  {row['ess_abs_m_per_second']:9.1f} ESS(|m|)/s"
                    f"  {row['times_slower_than_latticediff']:6.1f} x",
                    flush=True,
                )


if __name__ == "__main__":
    main()
