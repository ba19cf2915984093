r"""SOAP: Adam in the slowly turning eigenbasis of Shampoo's two factors [Vyas et al. 2409.11321, algorithm 3].

For a weight matrix with gradient g the running means :math:`L = \langle g g^T \rangle`,
:math:`R = \langle g^T g \rangle` have eigenvectors :math:`Q_L, Q_R`; Adam's second moments are kept of
:math:`Q_L^T g\, Q_R`, where they are closer to diagonal. Score networks have a few thousand strongly coupled
weights, for which this is cheap: measured at L = 8, 400 steps of fine-tuning lowered the variance of log_weight
to a third of what Adam reached (docs/records.md). No maintained release of it comes with torch.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

__all__ = ["SOAP"]

LARGEST = 512  # rows or columns beyond which a side keeps its basis: an eigenproblem grows with the cube
SETTLE = 20  # bases of the first steps come from full eigenproblems, as do later ones every SETTLE-th time


class SOAP(torch.optim.Optimizer):
    """Optimiser for the weights of small networks.

    Parameters
    ----------
    params : iterable of tensor
        A tensor of more than two axes is a matrix of its first axis against the rest; vectors keep Adam.
    lr : float
    betas : tuple of float
        Decay of first and second moments.
    factor_decay : float
        Of the two factors.
    every : int
        Steps between updates of the basis: one step of orthogonal iteration, now and then an eigenproblem.
    eps : float
        Added to the root of second moments.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 3e-3,
        betas: tuple[float, float] = (0.9, 0.99),
        factor_decay: float = 0.98,
        every: int = 10,
        eps: float = 1e-12,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "factor_decay": factor_decay, "every": every, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update from the gradients at hand."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.add_(self._update(p, group), alpha=-group["lr"])
        return loss

    def _update(self, p: Tensor, group: dict[str, Any]) -> Tensor:
        assert p.grad is not None  # `step` skips the others
        gradient = p.grad.reshape(len(p), -1) if p.ndim > 1 else p.grad.reshape(1, -1)
        state = self.state[p]
        if not state:
            self._begin(state, gradient, p.ndim > 1)
        state["step"] += 1
        step, (b1, b2) = int(state["step"]), group["betas"]
        for side, product in (("left", gradient @ gradient.T), ("right", gradient.T @ gradient)):
            if side in state:
                state[side].lerp_(product, 1.0 if step == 1 else 1 - group["factor_decay"])
        if step == 1 or step % group["every"] == 0:
            self._turn(state, step == 1 or (step // group["every"]) % SETTLE == 0)
        projected = _rotate(gradient, state)
        state["first"].lerp_(projected, 1 - b1)
        state["second"].lerp_(projected * projected, 1 - b2)
        root = (state["second"] / (1 - b2**step)).sqrt() + group["eps"]
        return _rotate(state["first"] / (1 - b1**step) / root, state, back=True).reshape(p.shape)

    @staticmethod
    def _begin(state: dict[str, Tensor], gradient: Tensor, is_matrix: bool) -> None:
        rows, columns = gradient.shape
        state["step"] = torch.zeros((), dtype=torch.int64)
        state["first"], state["second"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
        for side, size in (("left", rows), ("right", columns)):
            if is_matrix and 1 < size <= LARGEST:
                state[side] = gradient.new_zeros(size, size)
                state[f"{side}_basis"] = torch.eye(size, dtype=gradient.dtype, device=gradient.device)

    @staticmethod
    def _turn(state: dict[str, Tensor], exactly: bool) -> None:
        """Bring the bases up to date; the first moment is turned along, the second keeps its place by rank."""
        first = _rotate(state["first"], state, back=True)
        # contiguous, as a checkpoint keeps them: another memory layout would give other last bits after a resumption
        for side, axis in (("left", 0), ("right", 1)):
            if side not in state:
                continue
            factor, basis = state[side], state[f"{side}_basis"]
            if exactly:
                jitter = 1e-9 * factor.trace() * torch.eye(len(factor), dtype=factor.dtype, device=factor.device)
                state[f"{side}_basis"] = torch.linalg.eigh(factor + jitter).eigenvectors.flip(1).contiguous()
            else:
                order = ((factor @ basis) * basis).sum(0).argsort(descending=True, stable=True)
                state["second"] = state["second"].index_select(axis, order)
                state[f"{side}_basis"] = torch.linalg.qr(factor @ basis[:, order]).Q.contiguous()
        state["first"] = _rotate(first, state)


def _rotate(matrix: Tensor, state: dict[str, Tensor], back: bool = False) -> Tensor:
    """`matrix` turned into the eigenbasis of its factors, or `back` from there."""
    if "left" in state:
        basis = state["left_basis"]
        matrix = (basis if back else basis.T) @ matrix
    if "right" in state:
        basis = state["right_basis"]
        matrix = matrix @ (basis.T if back else basis)
    return matrix
