"""Every caller of the forward ESS tells it which chain a configuration is of."""

from dataclasses import asdict

import numpy as np
import pytest

from latticediff.analysis import ess_forward
from latticediff.stages.weigh import Weighing, forward_ess
from latticediff.training import TrainingData
from latticediff.training.data import by_chain, chain_numbers, evenly


@pytest.mark.parametrize(
    ("n_chains", "n_times", "n"), [(8, 60, 1000), (8, 60, 100), (8, 61, 32), (1, 97, 20), (16, 5, 7)]
)
def test_what_evenly_took_is_sorted_by_chain(n_chains, n_times, n):
    # the value of each configuration names its chain and its time
    time, chain = np.divmod(np.arange(n_times * n_chains), n_chains)
    phis = np.stack([chain, time], axis=1).astype(np.float64)
    data = TrainingData(phis, n_chains, held_out=0.5)
    held_out = data.held_out
    assert data.held_out_chains == len(np.unique(chain[np.isin(chain, held_out[:, 0].numpy())])) if n_chains > 1 else 1
    some = evenly(held_out, n)
    found = by_chain(np.arange(len(some)), len(held_out), data.held_out_chains)
    assert sorted(np.concatenate(found)) == list(range(len(some)))
    assert len(found) == len(set(some[:, 0]))  # no chain in two pieces
    for rows in found:
        assert len(set(some[rows, 0])) == 1 and (np.diff(some[rows, 1]) > 0).all()


def test_weights_of_a_file_are_blocked_by_chain():
    a, n_chains, n = 0.9, 16, 400
    x = np.zeros((n, n_chains))
    noise = np.random.default_rng(3).normal(size=(n, n_chains))
    for t in range(1, n):
        x[t] = a * x[t - 1] + noise[t]
    forward = 0.1 * x.ravel()  # chains take turns, as in an ensemble file
    arrays = {"log_weight": forward, "chain": chain_numbers(forward.size, forward.size, n_chains)}
    right = ess_forward(0.1 * x.T)
    # nan is nan, which == of data classes denies from Python 3.13 on
    np.testing.assert_equal(asdict(forward_ess(arrays)), asdict(right))
    assert right.error > 2 * ess_forward(forward, correlated=False).error
    assert Weighing("x", "ode", arrays).to_dict()["ess_forward"] == right.pair()
    del arrays["chain"]  # a file of an earlier version
    assert forward_ess(arrays).value == pytest.approx(right.value, rel=1e-12)
