"""The proposals of a model in BlackJAX: independent Metropolis, jitted, several chains by vmap."""

import jax
import numpy as np

import latticediff

jax.config.update("jax_enable_x64", True)


def run(name="phi4-A-L8", n_chains=32, n=100, seed=1):
    """Series of |m|, (n, n_chains), and the acceptance."""
    from latticediff.hosts.blackjax import irmh

    algorithm, draw = irmh(latticediff.load(name).proposal())

    def step(states, key):
        states, info = jax.vmap(algorithm.step)(jax.random.split(key, n_chains), states)
        m = jax.numpy.abs(states.position.phi.mean(axis=(1, 2)))
        return states, (m, info.is_accepted)

    first, rest = jax.random.split(jax.random.key(seed))
    states = jax.vmap(lambda key: algorithm.init(draw(key)))(jax.random.split(first, n_chains))
    _, (series, accepted) = jax.lax.scan(step, states, jax.random.split(rest, n))
    return np.asarray(series), float(accepted.mean())


if __name__ == "__main__":
    series, acceptance = run()
    print(f"<|m|> = {series.mean():.4f}, acceptance {acceptance:.3f}")
