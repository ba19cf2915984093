r"""The ridge network whose score is a gradient.

The score :math:`s = -(G+v)^{-1} x - W R` of a density is the gradient of its logarithm. That of
`latticediff.networks.ridge.network` is one only as far as it was learned. Here it is one by construction: with
the energy

.. math:: E(x) = \sum_f \sum_y \Gamma_f(h_f(y)), \qquad h_f = \sum_j A_{fj} * I_j * x, \qquad \Gamma_f' = g_f ,

:math:`W R = W R_0 + \partial E / \partial x`, hence

.. math:: R = R_0 + \sum_{jf} O_j * A_{fj}^T * g_f(h_f), \qquad O_j = I_j / W :

output kernels are the reflected input kernels, and their filters are known. The baseline's part is a gradient
already, since W is symmetric. The trace stays closed form [Salimans, Ho 2021 compare energy and score models].
"""

import torch
from torch import Tensor

from ...errors import UserError
from ...gaussian.reference import GaussianReference
from .network import N_INPUT, N_OUTPUT, RidgeNetwork

__all__ = ["ConservativeRidgeNetwork"]

# of the outputs by their input: the filter 2 W / W comes first, since the compiled flow adds the local part
# of the baseline to the first output and takes its filter to be the same at every momentum
ORDER = [1, 0, 2]


class ConservativeRidgeNetwork(RidgeNetwork):
    """Ridge network with a symmetric Jacobian of W R; options and interface of `RidgeNetwork`.

    It has two thirds of the kernel weights and no gains at the output.
    """

    name = "conservative_ridge"

    def _make_output(self, n_taps: int, hidden: int) -> None:
        """Makes nothing: the output kernels are the reflected input kernels.

        Raises
        ------
        UserError
            Fewer filters than all are asked for: the outputs are those of the inputs.
        """
        if (self.inputs, self.outputs) != (N_INPUT, N_OUTPUT):
            raise UserError(f"{self.name} has all input filters, and an output for each; inputs, outputs are of ridge")

    def output_kernels(self) -> Tensor:
        """The reflected input kernels, (3, F, T); offset T-1-t is minus offset t."""
        return self.A.flip(-1).transpose(0, 1)[ORDER]

    def _output_gains(self, e: Tensor, gain_in: Tensor) -> Tensor:
        return gain_in.transpose(1, 2)[:, ORDER]

    def screen(self, gaussian: GaussianReference, C: Tensor) -> None:
        """None: this network is never screened, since with a screen D the vector field W D f(W x) is not a gradient."""
        return None

    def filters(self, gaussian: GaussianReference, v: Tensor, W: Tensor) -> tuple[Tensor, Tensor]:
        """Input filters I and output filters I / W, both (n, 3, *lattice), at v = sigma^2."""
        inner, _ = super().filters(gaussian, v, W)
        return inner, (inner / torch.unsqueeze(W, 1))[:, ORDER]
