r"""Training of the law of the fine sites: force matching on configurations, without draws.

.. math:: \langle |\nabla_{ab} [S_{C, ab} + \log q(ab | C)]|^2 \rangle

is the Fisher divergence of the law of colours a and b from the theory's, with colour d integrated out; its minimum is
zero and has no noise. Eq. (15l) of the theory page.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..diffusion.threads import one_torch_thread
from ..errors import UserError
from ..fine import FineLaw
from ..host import torch_defaults
from ..types import FloatArray
from .optimizers import OPTIMIZERS

__all__ = ["FORCES", "VALUES", "match_forces"]

FORCES = 2**22  #: field values of the rows that a law is trained on
VALUES = 2**14  #: of a batch
RATE, WARMUP, CLIP, MEAN = 1e-2, 50, 1.0, 0.02


@torch_defaults()
def match_forces(
    law: FineLaw,
    rows: FloatArray,
    steps: int,
    seed: int = 0,
    told: Callable[[int, float], object] | None = None,
    stop: Callable[[], object] | None = None,
) -> float:
    """Train a law in place by SOAP with a cosine; the bits follow from rows, steps and seed.

    Parameters
    ----------
    law : FineLaw
    rows : ndarray, shape (n, 2 M^2), float64
        Coarse and fine sites of configurations.
    steps, seed : int
    told : callable, optional
        ``told(step, mismatch)`` after each step; the mismatch is a running mean of squares per site.
    stop : callable, optional
        Asked after each step; what is true ends the training.

    Returns
    -------
    float
        The mismatch at the end.

    Raises
    ------
    UserError
        It is not finite.
    """
    optimizer = OPTIMIZERS["soap"](law.parameters(), RATE)
    generator = torch.Generator().manual_seed(seed)
    batch = min(len(rows), max(8, VALUES // rows.shape[1]))
    mean, unit = 0.0, law.site.unit
    law.count_in(unit)  # the optimiser's steps are of one size for all weights, and those of sixth powers are not
    with one_torch_thread(torch.device("cpu")):
        x = torch.as_tensor(rows).float()
        force = _forces(law, x)
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(1, (step + 1) / WARMUP) * 0.5 * (1 + math.cos(math.pi * step / steps))
            index = torch.randint(len(x), (batch,), generator=generator)
            loss = ((force[index] + _gradient(law, x[index])) ** 2).mean()
            optimizer.zero_grad()
            (unit**2 * loss).backward()
            torch.nn.utils.clip_grad_norm_(law.parameters(), CLIP)
            optimizer.step()
            mean = loss.item() if step == 0 else mean + MEAN * (loss.item() - mean)
            if not math.isfinite(mean):
                raise UserError(
                    f"the forces of the fine sites are off by {mean} at step {step + 1}: are the configurations of this"
                    " theory? (training.sites = odd does without them)"
                )
            if told is not None:
                told(step + 1, mean)
            if stop is not None and stop():
                break
    law.count_in(1.0)
    return mean


def _forces(law: FineLaw, x: Tensor, batch: int = 256) -> Tensor:
    """``grad_ab S_{C, ab}`` of rows, (n, M^2 / 2): it does not depend on the weights."""
    found = []
    for part in x.split(batch):
        part = part.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(law.marginal(part).sum(), part)
        found.append(gradient[:, law.ab])
    return torch.cat(found)


def _gradient(law: FineLaw, x: Tensor) -> Tensor:
    """``grad_ab log q(ab | C)``, (n, M^2 / 2), differentiable by the weights."""
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(law.log_q_ab(x).sum(), x, create_graph=True)
    return gradient[:, law.ab]
