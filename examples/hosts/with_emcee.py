"""The proposals of a model as a move of emcee, whose walkers are fields."""

import emcee
import numpy as np

import latticediff
from latticediff.hosts.emcee import IndependenceMove, log_prob


def run(name="phi4-A-L8", n_walkers=32, n=100, seed=1):
    """Series of |m|, (n, n_walkers), and the acceptance."""
    proposal = latticediff.load(name).proposal()
    start = proposal.draw(n_walkers, seed).phi.reshape(n_walkers, -1)
    move = IndependenceMove(proposal, rng=seed + 1)
    sampler = emcee.EnsembleSampler(n_walkers, start.shape[1], log_prob(proposal), moves=move, vectorize=True)
    state = emcee.State(start, random_state=np.random.RandomState(seed).get_state())  # of the accept steps
    sampler.run_mcmc(state, n, skip_initial_state_check=True)
    return np.abs(sampler.get_chain().mean(axis=-1)), sampler.acceptance_fraction.mean()


if __name__ == "__main__":
    series, acceptance = run()
    print(f"<|m|> = {series.mean():.4f}, acceptance {acceptance:.3f}")
