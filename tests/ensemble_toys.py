"""A small exact chain for the file tests: Gaussian Metropolis in NumPy, sequential generator, quick to start."""

import json

import h5py
import numpy as np

from latticediff.action import Phi4
from latticediff.ensemble import run_chain, start_fields
from latticediff.ensemble.seal import found_parts
from latticediff.ensemble.stored import open_h5
from latticediff.markov import Block, ChainState
from latticediff.streams import Streams

ACTION = Phi4.A(-4.0, 6.008)
SHAPE = (4, 6)
N_CHAINS = 3


class ToyChain:
    """All sites move at once; its sequential stream makes a lost or repeated draw visible in every later bit."""

    def __init__(self, action=ACTION, width=0.2):
        self.action, self.width = action, width

    def describe(self):
        return {"name": "toy", "width": self.width, "sizes": (1, 2)}

    def start(self, phi):
        return ChainState(phi, self.action(phi), 0)

    def advance(self, state, rng, n_updates, thin=1):
        generator = rng.child("toy").generator("update")
        phi, action, update = state.phi, state.action, state.update
        phis, actions, accepted, delta = [], [], [], []
        for _ in range(n_updates):
            trial = phi + self.width * generator.standard_normal(phi.shape)
            delta.append(self.action(trial) - action)
            accepted.append(np.log(generator.random(len(phi))) < -delta[-1])
            phi = np.where(accepted[-1][:, None, None], trial, phi)
            action = np.where(accepted[-1], action + delta[-1], action)
            update += 1
            if update % thin == 0:
                phis.append(phi)
                actions.append(action)
        block = Block(
            np.array(phis).reshape(-1, *phi.shape),
            np.array(actions).reshape(-1, len(phi)),
            {"accepted": np.array(accepted), "delta_h": np.array(delta)},
        )
        return ChainState(phi, action, update), block


def reseal(path):
    """Write the seal anew, as somebody would who changes the header of a file and knows this program."""
    with open_h5(path) as file:
        parts = found_parts(file)
    with h5py.File(path, "r+") as file:
        file["seal/parts"][()] = np.bytes_(json.dumps(parts, sort_keys=True))


def start(seed=3, n_chains=N_CHAINS, shape=SHAPE):
    streams = Streams(seed)
    return ToyChain().start(start_fields("hot", n_chains, shape, streams)), streams


def make(path, n_updates=60, thin=5, block=7, **options):
    options.setdefault("start", start)
    return run_chain(ToyChain(), path=path, n_updates=n_updates, thin=thin, block=block, **options)


def free_fields(action, n, shape=SHAPE, seed=8):
    """Exact draws of a free theory (lam = 0): n independent configurations, no chain needed."""
    k = [2 * np.pi * np.arange(extent) / extent for extent in shape]
    inverse = 2 * action.a - 2 * action.hopping * (np.cos(k[0])[:, None] + np.cos(k[1])[None, :])
    noise = np.fft.fft2(np.random.default_rng(seed).normal(size=(n, *shape)))
    return np.fft.ifft2(noise / np.sqrt(inverse)).real
