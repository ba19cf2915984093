"""The proposals of a model in numpyro: vectorised chains of its MCMC, with its own summary of them."""

import jax
import numpy as np

import latticediff

jax.config.update("jax_enable_x64", True)


def run(name="phi4-A-L8", n_chains=32, n=100, seed=1):
    """Series of |m|, (n, n_chains), and the acceptance."""
    from numpyro.infer import MCMC

    from latticediff.hosts.numpyro import Independence

    chains = MCMC(
        Independence(latticediff.load(name).proposal()),
        num_warmup=0,
        num_samples=n,
        num_chains=n_chains,
        chain_method="vectorized",
        progress_bar=False,
    )
    chains.run(jax.random.key(seed), extra_fields=("accepted",))
    phi = np.asarray(chains.get_samples(group_by_chain=True))
    accepted = np.asarray(chains.get_extra_fields()["accepted"])
    return np.abs(phi.mean(axis=(2, 3))).T, float(accepted.mean())


if __name__ == "__main__":
    series, acceptance = run()
    print(f"<|m|> = {series.mean():.4f}, acceptance {acceptance:.3f}")
