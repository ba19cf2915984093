"""A score network with one weight: R = w W x, whose divergence is a closed form."""

import torch


class LinearNetwork(torch.nn.Module):
    name, closed_form_trace = "linear", True

    def __init__(self, ndim=2, begin=0.0):
        super().__init__()
        self.ndim, self.begin = ndim, begin
        self.weight = torch.nn.Parameter(torch.tensor(float(begin)))

    def describe(self):
        return {"name": self.name, "begin": self.begin}

    def forward(self, gaussian, x, log_sigma, trace=False):
        W, C = gaussian.posterior(gaussian.expand((2 * log_sigma).exp()))
        R = gaussian.filter(x, self.weight * W)
        if not trace:
            return R, None
        total = self.weight * gaussian.at_origin(W * C) * gaussian.volume
        return R, total.double().expand(len(x))
