r"""Maps with an exact determinant in place of an integrated trace: coloured updates of the checkerboard, measured.

    python benchmarks/coloured_maps.py [--L 8] [--lam 6.008] [--layers 8] [--channels 16] [--seconds 180] [--json]

Noise is coloured by the free propagator that has the width and the curvature of the theory at k = 0, then every layer
moves the sites of one colour by an affine map whose slope and shift are two layers of 3x3 periodic convolutions of the
other colour:

.. math:: \phi_x' = e^{s_x} \phi_x + t_x, \qquad \log\det = \sum_x s_x,

s even and t odd in the field, so that phi -> -phi is kept. There is no integration error, whatever the number of
layers. Trained by the reverse Kullback-Leibler divergence for a given processor time; a row has the reverse ESS of
fresh draws, and nanoseconds per site and draw, to be held against the probability flow of the shipped models.
"""

import argparse
import json
import math
import time

import torch

from latticediff.action import Phi4, free_propagator


class Layer(torch.nn.Module):
    """One colour moved, given the other."""

    def __init__(self, mask, channels):
        super().__init__()
        self.register_buffer("mask", mask)
        options = {"kernel_size": 3, "padding": 1, "padding_mode": "circular", "bias": False}
        self.read = torch.nn.Conv2d(1, channels, **options)
        self.mix = torch.nn.Conv2d(channels, channels, **options)
        self.slope = torch.nn.Conv2d(channels, 1, **{**options, "bias": True})
        self.shift = torch.nn.Conv2d(channels, 1, **options)
        torch.nn.init.zeros_(self.slope.weight)
        torch.nn.init.zeros_(self.slope.bias)
        torch.nn.init.zeros_(self.shift.weight)

    def forward(self, phi):
        seen = (phi * (1 - self.mask))[:, None]
        hidden = torch.tanh(self.mix(torch.tanh(self.read(seen))))  # odd
        s = self.mask * self.slope(hidden * hidden)[:, 0]
        t = self.mask * self.shift(hidden)[:, 0]
        return phi * s.exp() + t, s.sum((1, 2))


def action_of(theory, phi):
    """S of tensors (n, L, L)."""
    a, b = theory.a, theory.b
    near = torch.roll(phi, 1, 1) + torch.roll(phi, 1, 2)
    return (a * phi**2 + b * phi**4 - theory.hopping * phi * near).sum((1, 2))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--L", type=int, default=8)
    parser.add_argument("--lam", type=float, default=6.008)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=180.0, help="processor time of the training")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(1)
    torch.set_num_threads(1)
    L, theory = options.L, Phi4.A(-4.0, options.lam)
    mass = (4 / L) ** 2  # xi = L / 4
    G = torch.as_tensor(free_propagator(Phi4.A(mass, 0.0), (L, L)), dtype=torch.float32)
    root, colour = G.sqrt(), (torch.arange(L)[:, None] + torch.arange(L)) % 2
    half_log_det = 0.5 * float(G.double().log().sum())
    layers = torch.nn.ModuleList(Layer((colour == i % 2).float(), options.channels) for i in range(options.layers))

    def draw(n):
        z = torch.randn(n, L, L)
        phi = torch.fft.ifft2(torch.fft.fft2(z) * root).real
        log_q = -0.5 * (z**2).sum((1, 2)) - 0.5 * L * L * math.log(2 * math.pi) - half_log_det
        for layer in layers:
            phi, log_det = layer(phi)
            log_q = log_q - log_det
        return phi, log_q

    optimizer = torch.optim.Adam(layers.parameters(), lr=2e-3)
    began, steps = time.process_time(), 0
    while (spent := time.process_time() - began) < options.seconds:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * spent / options.seconds)))
        phi, log_q = draw(options.batch)
        loss = (log_q + action_of(theory, phi)).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(layers.parameters(), 10.0)
        optimizer.step()
        steps += 1
    with torch.no_grad():
        log_w, began = [], time.process_time()
        for _ in range(20):
            phi, log_q = draw(500)
            log_w.append(-action_of(theory, phi.double()) - log_q.double())
        seconds = time.process_time() - began
    w = torch.cat(log_w)
    w = (w - w.max()).exp()
    row = {"L": L, "layers": options.layers, "channels": options.channels, "steps": steps, "seconds": spent}
    row |= {"ess_reverse": float(w.mean() ** 2 / (w * w).mean()), "ns_per_site": 1e9 * seconds / 10_000 / L**2}
    print(json.dumps(row) if options.json else row)


if __name__ == "__main__":
    main()
