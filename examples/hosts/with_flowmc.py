"""The proposals of a model in flowMC: its sampler, buffers and group steps, with a kernel of ours."""

import jax
import numpy as np

import latticediff

jax.config.update("jax_enable_x64", True)


def run(name="phi4-A-L8", n_chains=32, n=100, seed=1):
    """Series of |m|, (n, n_chains), and the acceptance."""
    from flowMC.resource.buffers import Buffer
    from flowMC.resource.states import State
    from flowMC.Sampler import Sampler
    from flowMC.strategy.take_steps import TakeGroupSteps

    from latticediff.hosts.flowmc import Independence, log_prob

    proposal = latticediff.load(name).proposal()
    size = int(np.prod(proposal.shape))
    shapes = {"positions": (n_chains, n, size), "log_prob": (n_chains, n), "acceptance": (n_chains, n)}
    resources = {buffer: Buffer(buffer, shape, 1) for buffer, shape in shapes.items()}
    resources |= {"logpdf": log_prob(proposal), "proposal": Independence(proposal)}
    resources["state"] = State({buffer: buffer for buffer in shapes}, name="state")
    sampler = Sampler(
        n_dim=size,
        n_chains=n_chains,
        rng_key=jax.random.key(seed),
        resources=resources,
        strategies={"steps": TakeGroupSteps("logpdf", "proposal", "state", list(shapes), n_steps=n)},
        strategy_order=["steps"],
        checkpoint_interval=0,
    )
    sampler.sample(jax.numpy.asarray(proposal.draw(n_chains, seed).phi.reshape(n_chains, size)), {})
    phi = np.asarray(resources["positions"].data)
    return np.abs(phi.mean(axis=2)).T, float(np.asarray(resources["acceptance"].data).mean())


if __name__ == "__main__":
    series, acceptance = run()
    print(f"<|m|> = {series.mean():.4f}, acceptance {acceptance:.3f}")
