"""A Markov kernel: change the sign of the whole field with probability 1/2; exact for potentials that are even."""

import numpy as np

from latticediff.markov import Block, ChainState


class SignFlip:
    """One part of a `latticediff.composite.Sequence`: alone it is not ergodic."""

    force_evaluations_per_update = 0

    def __init__(self, action):
        self.action = action

    def start(self, phi):
        return ChainState(np.array(phi, np.float64), np.asarray(self.action(phi)), 0)

    def advance(self, state, rng, n_updates, thin=1):
        # one sequential generator, whose position is saved with the chain: however a run is cut, it has the same bits
        flips = rng.generator("sign").random((n_updates, len(state.phi))) < 0.5
        phi, kept = state.phi.copy(), []
        for update, flip in enumerate(flips, start=state.update + 1):
            phi[flip] *= -1
            if update % thin == 0:
                kept.append(phi.copy())
        shape = (len(kept), *phi.shape)
        fields = np.array(kept).reshape(shape)
        action = np.broadcast_to(state.action, shape[:2]).copy()
        info = {"accepted": np.ones((n_updates, len(phi)), bool)}
        return state._replace(phi=phi, update=state.update + n_updates), Block(fields, action, info)

    def describe(self):
        return {"name": "sign_flip"}

    @classmethod
    def from_description(cls, action, description):
        return cls(action)
