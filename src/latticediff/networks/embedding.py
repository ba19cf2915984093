r"""What a network knows beside the field: the noise level and, if asked, the couplings.

:math:`e = F(\sin(\omega_j \log\sigma), \cos(\omega_j \log\sigma), u)` with a small perceptron F. The features
u of the couplings do not depend on the field's normalisation: under :math:`\phi \to s \phi` all of
:math:`(c\,d,\; a,\; \sqrt b)` are multiplied by :math:`s^2`, so

.. math:: u = \frac{8\,(c\,d,\; a,\; \sqrt{b})}{|c|\,d + |a| + \sqrt{b}} .

On a line of couplings they vary by a few per cent, and a perceptron wants numbers of order one: in training each of
them is counted from its mean over the ensembles, in units of its standard deviation there (`Embedding.centre_on`).

No cost per site: networks turn e into gains, amplitudes and biases of their channels.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..action import Phi4
from ..errors import UserError
from ..gaussian.reference import GaussianReference

__all__ = ["Embedding", "coupling_features"]

N_COUPLINGS = 3
SPREAD = 8.0


def coupling_features(action: Phi4) -> tuple[float, ...]:
    r"""Three numbers that name the theory whatever the normalisation of its field.

    Parameters
    ----------
    action : latticediff.action.Phi4
        With `hopping` c, `a` and ``b >= 0`` of :math:`-c \sum_\mu \phi\phi' + a\phi^2 + b\phi^4` in `ndim` dimensions;
        or the theory of a part of its sites, which has the couplings of the `whole`.

    Returns
    -------
    tuple of float
        ``8 (c d, a, sqrt b) / (|c| d + |a| + sqrt b)``.

    Raises
    ------
    UserError
        Another theory, of whose couplings these three would not tell all.
    """
    whole = getattr(action, "whole", action)
    if not isinstance(whole, Phi4):
        raise UserError(
            f"a conditioned network knows the couplings of phi^4, not of {action!r}; take network.conditioned = false"
        )
    couplings = whole.hopping * whole.ndim, whole.a, math.sqrt(whole.b)
    total = sum(abs(value) for value in couplings)
    return tuple(SPREAD * value / total for value in couplings)


class Embedding(nn.Sequential):
    """Noise level, and couplings if `conditioned`, as a vector of `hidden` numbers.

    Parameters
    ----------
    hidden : int
        Width of the perceptron and of its result.
    conditioned : bool
        Take the couplings of the reference's action as well, so that one set of weights serves a line of
        couplings. Without it, a reference of other couplings is embedded like the one trained on.

    Raises
    ------
    UserError
        If `hidden` is below 1.
    """

    frequencies: Tensor
    couplings: Tensor | None

    def __init__(self, hidden: int = 64, conditioned: bool = False) -> None:
        if hidden < 1:
            raise UserError(f"hidden = {hidden}; expected at least 1")
        # no faster than sigma^2 crosses over: the flow's integration error grows with the highest frequency
        frequencies = torch.linspace(-2, 0.7, 8).exp()
        inputs = 2 * len(frequencies) + (N_COUPLINGS if conditioned else 0)
        super().__init__(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
        self.hidden, self.conditioned = hidden, bool(conditioned)
        # a buffer, so that a model file keeps the ones it was trained with
        self.register_buffer("frequencies", frequencies)
        self.register_buffer("couplings", None)  # (2, 3): mean and unit of the features; None: as they are

    def centre_on(self, actions: Sequence[Phi4]) -> None:
        """Count the features of couplings from their mean over these theories, in units of their standard deviation.

        A feature that they share keeps its unit. Nothing happens if the embedding is not conditioned.

        Parameters
        ----------
        actions : sequence of latticediff.action.Phi4
        """
        if not self.conditioned:
            return
        features = torch.tensor([coupling_features(action) for action in actions], dtype=torch.float64)
        unit = features.std(0, correction=0)
        unit = torch.where(unit > 1e-6, unit, 1.0)
        self.couplings = torch.stack([features.mean(0), unit]).to(self.frequencies)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        # a model from before couplings were centred has none, and keeps its features as they are
        found = state_dict.get(f"{prefix}couplings")
        self.couplings = None if found is None else found.detach().clone().to(self.frequencies)
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def forward(self, gaussian: GaussianReference, log_sigma: Tensor) -> Tensor:  # type: ignore[override]
        """The vectors e.

        Parameters
        ----------
        gaussian : GaussianReference
            Its action is read if `conditioned`.
        log_sigma : tensor, shape (n,)

        Returns
        -------
        tensor, shape (n, hidden)
        """
        phase = log_sigma[:, None] * self.frequencies
        features = [phase.sin(), phase.cos()]
        if self.conditioned:
            couplings = torch.tensor(coupling_features(gaussian.action)).to(log_sigma)
            if self.couplings is not None:
                couplings = (couplings - self.couplings[0]) / self.couplings[1]
            features.append(couplings.expand(len(log_sigma), -1))
        return super().forward(torch.cat(features, 1))
