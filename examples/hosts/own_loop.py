"""A Metropolis loop of one's own around the proposals of a model: all that a host program needs."""

import numpy as np

import latticediff


def run(name="phi4-A-L8", n=2000, seed=1):
    """Series of |m| and the acceptance of one chain of `n` updates."""
    model = latticediff.load(name)
    proposal, rng = model.proposal(), np.random.default_rng(seed)
    phi, log_q = proposal.draw(n, rng)  # any batch gives the same fields
    log_w = -model.action(phi) - log_q

    current, accepted, series = 0, 0, []
    for new in range(1, n):
        if np.log(rng.random()) < log_w[new] - log_w[current]:
            current, accepted = new, accepted + 1
        series.append(abs(phi[current].mean()))
    return np.array(series), accepted / (n - 1)


if __name__ == "__main__":
    series, acceptance = run()
    print(f"<|m|> = {series.mean():.4f}, acceptance {acceptance:.3f}")
