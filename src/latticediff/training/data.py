"""Configurations of an ensemble as tensors, split into training and held-out chains."""

import itertools

import numpy as np
import torch

from ..errors import UserError

__all__ = ["TrainingData"]


class TrainingData:
    """Training and held-out configurations of one ensemble.

    Parameters
    ----------
    phis : ndarray, shape (n_cfg, *lattice)
        Ordered by update, then by chain, as `latticediff.ensemble.Ensemble` gives them.
    n_chains : int
    held_out : float
        Fraction kept apart: whole chains where there are several (they are independent of the
        rest), the end of the only chain otherwise.
    device : str or torch.device

    Raises
    ------
    UserError
        Empty or non-finite data, or a split that leaves one side empty.
    """

    def __init__(self, phis, n_chains=1, held_out=0.125, device="cpu"):
        phis = np.asarray(phis)
        if phis.ndim < 2 or len(phis) == 0:
            raise UserError(f"training data have shape {phis.shape}; expected (n_cfg, *lattice) with n_cfg >= 1")
        if not np.all(np.isfinite(phis)):
            raise UserError("training data hold values that are not finite; verify the ensemble")
        if not 0 < held_out < 1:
            raise UserError(f"held_out is {held_out}; expected a fraction between 0 and 1")
        chain = np.arange(len(phis)) % n_chains
        if n_chains > 1:
            apart = chain >= n_chains - max(1, round(held_out * n_chains))
        else:
            apart = np.arange(len(phis)) >= len(phis) - round(held_out * len(phis))
        if apart.all() or not apart.any():
            raise UserError(f"{len(phis)} configurations cannot be split with held_out = {held_out}; generate more")
        self.shape = phis.shape[1:]
        self.train = torch.as_tensor(phis[~apart], dtype=torch.float32, device=device)
        self.held_out = torch.as_tensor(phis[apart], dtype=torch.float32, device=device)
        self.symmetries = lattice_symmetries(self.shape)

    def batch(self, size, generator):
        """`size` configurations drawn with replacement, moved by one random lattice symmetry."""
        index = torch.randint(len(self.train), (size,), generator=generator)
        which = int(torch.randint(len(self.symmetries), (), generator=generator))
        order, flips = self.symmetries[which]
        phi = self.train[index.to(self.train.device)]
        phi = phi.permute(0, *(axis + 1 for axis in order))
        return phi.flip([axis + 1 for axis in flips]).contiguous() if flips else phi.contiguous()


def lattice_symmetries(shape):
    """Point symmetries of the box: (axis order, axes to flip), permutations of equal extents only."""
    ndim = len(shape)
    orders = [
        order for order in itertools.permutations(range(ndim)) if all(shape[i] == shape[j] for i, j in enumerate(order))
    ]
    flips = [axes for r in range(ndim + 1) for axes in itertools.combinations(range(ndim), r)]
    return [(order, flip) for order in orders for flip in flips]
