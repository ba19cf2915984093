"""Energy violations of long chains: bins that keep the mean of exp(-delta_h), whatever the length of the history."""

import numpy as np
import pytest

from latticediff.action import Phi4
from latticediff.ensemble import Ensemble, save_ensemble
from latticediff.stages.violations import energy_violations

N_CHAINS, N_UPDATES = 4, 1003


@pytest.fixture
def ensemble(tmp_path):
    rng, action = np.random.default_rng(1), Phi4.A(-1.0, 1.0, 1)
    delta_h = rng.normal(0.1, 0.5, (N_UPDATES, N_CHAINS))
    delta_h[7, 2] = delta_h[500, 1] = np.inf  # diverged
    phi = rng.normal(size=(N_UPDATES * N_CHAINS, 2))
    save_ensemble(tmp_path / "a.h5", phi, action=action, n_chains=N_CHAINS, history={"delta_h": delta_h})
    with Ensemble(tmp_path / "a.h5") as opened:
        yield opened


def test_bins_keep_the_mean_and_the_chains(ensemble):
    """Bins of eleven updates, since ten would be one number too many; the first two updates are left out."""
    given = energy_violations(ensemble)
    np.testing.assert_array_equal(given, ensemble.history("delta_h").T)
    binned = energy_violations(ensemble, N_UPDATES * N_CHAINS // 10)
    assert binned.shape == (N_CHAINS, N_UPDATES // 11)
    start = N_UPDATES % 11
    means = np.exp(-given[:, start:]).reshape(N_CHAINS, -1, 11).mean(2)
    np.testing.assert_allclose(np.exp(-binned), means, rtol=1e-12)
    assert binned.size <= N_UPDATES * N_CHAINS // 10


def test_a_bin_of_diverged_trajectories_counts_for_nothing(tmp_path):
    delta_h = np.zeros((8, 1))
    delta_h[:4] = np.inf
    save_ensemble(tmp_path / "a.h5", np.ones((8, 2)), action=Phi4.A(-1.0, 1.0, 1), history={"delta_h": delta_h})
    with Ensemble(tmp_path / "a.h5") as opened:
        assert energy_violations(opened, 2).tolist() == [[np.inf, 0.0]]
        assert energy_violations(opened, 8).shape == (1, 8)
    save_ensemble(tmp_path / "b.h5", np.ones((8, 2)), action=Phi4.A(-1.0, 1.0, 1))
    with Ensemble(tmp_path / "b.h5") as opened:
        assert energy_violations(opened) is None
