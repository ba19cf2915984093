"""Figures of the page on score matching: one-dimensional double well and a two-dimensional toy.

    python docs/figures/score_matching.py [--out docs/figures]

Writes score-matching-{well,losses,kde,langevin}.png; half a minute on one core.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from latticediff.diffusion.langevin import annealed_langevin
from latticediff.report.style import COLOURS, DASHES, legend, new_figure, styled
from latticediff.targets.objectives import EmpiricalScore, denoising, explicit

GRID = np.linspace(-3, 3, 601)
CENTRES = np.array([[-1.5, -0.8], [1.4, 1.0]])
MODES = EmpiricalScore(CENTRES, weights=[0.7, 0.3], width=0.3)
LEVEL = 0.5


class Perceptron(torch.nn.Module):
    """A score of one coordinate by a hidden layer, for the loss curves."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(1, 24), torch.nn.SiLU(), torch.nn.Linear(24, 24), torch.nn.SiLU(), torch.nn.Linear(24, 1)
        ).double()

    def forward(self, x, sigma):
        return self.layers(x)


def double_well(beta=4.0):
    """Action ``beta (x^2 - 1)^2`` as a fine mixture of points, so that every noised score is known."""
    weights = np.exp(-beta * (GRID**2 - 1) ** 2)
    return EmpiricalScore(GRID[:, None], weights=weights), weights / weights.sum()


def draw_well(probability, n, rng):
    return torch.as_tensor(rng.choice(GRID, size=(n, 1), p=probability))


def column(values):
    return torch.as_tensor(values)[:, None]


def figure_well(well, out):
    """Noised densities and their scores: from two narrow wells to one wide Gaussian."""
    fig, (left, right) = new_figure(2.7, ncols=2)
    x = np.linspace(-3.5, 3.5, 400)
    for sigma, colour, dashes in zip((0.02, 0.2, 0.5, 1.2), COLOURS, DASHES, strict=False):
        look = {"color": colour, "ls": dashes}
        left.plot(x, well.log_density(column(x), sigma).exp(), label=f"σ = {sigma}", **look)
        right.plot(x, well(column(x), sigma), **look)
    right.plot(x, -16 * x * (x**2 - 1), color="#777777", lw=0.8)
    left.plot([], [], color="#777777", lw=0.8, label="force, −dS/dx")
    left.set(xlabel="$x$", ylabel=r"$p_\sigma(x)$")
    right.set(xlabel="$x$", ylabel=r"$\nabla \log p_\sigma(x)$", ylim=(-12, 12))
    legend(fig, left, outside=True)
    save(fig, out, "well")


def figure_losses(well, probability, out, rng):
    """Both losses, exactly, while a network learns by denoising: a constant apart."""
    torch.manual_seed(1)
    model = Perceptron()
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    # every point of the well with every node of the noise: expectations without sampling error
    nodes = np.arange(-6, 6.01, 0.3)
    phi, z = (torch.as_tensor(a.reshape(-1, 1)) for a in np.meshgrid(GRID, nodes, indexing="ij"))
    weights = torch.as_tensor(np.outer(probability, np.exp(-0.5 * nodes**2)).ravel())
    weights /= weights.sum()
    known = well(phi + LEVEL * z, LEVEL)
    power = float(weights @ known.square().sum(1))
    constant = 0.5 * (1 / LEVEL**2 - power)
    steps, curves = [], []
    for step in range(601):
        if step % 30 == 0:
            with torch.no_grad():
                esm = explicit(model, phi, z, LEVEL, exact=lambda *_: known)
                steps.append(step)
                curves.append((float(weights @ esm), float(weights @ denoising(model, phi, z, LEVEL))))
        batch = draw_well(probability, 256, rng)
        noise = torch.as_tensor(rng.normal(size=(256, 1)))
        optimiser.zero_grad()
        denoising(model, batch, noise, LEVEL).mean().backward()
        optimiser.step()
    esm, dsm = np.array(curves).T
    print(f"ESM {esm[-1]:.6f}, DSM - ESM {dsm[-1] - esm[-1]:.6f}, constant of theory {constant:.6f}")
    fig, (left, right) = new_figure(2.7, ncols=2)
    left.plot(steps, dsm, color=COLOURS[0], label="DSM")
    left.plot(steps, esm, color=COLOURS[1], ls="--", label="ESM")
    left.plot(steps, esm + constant, color="black", ls=":", label="ESM + constant of theory")
    left.set(xlabel="training step", ylabel="loss", ylim=(0, None))
    line = np.linspace(-2.6, 2.6, 300)
    with torch.no_grad():
        right.plot(line, model(column(line), None), color=COLOURS[2], label="network")
    right.plot(line, well(column(line), LEVEL), color="black", ls=":", label=f"exact, σ = {LEVEL}")
    right.set(xlabel="$x$", ylabel="score")
    right.legend(loc="lower left")
    legend(fig, left, outside=True)
    save(fig, out, "losses")


def draw_modes(n, rng):
    which = rng.choice(2, size=n, p=[0.7, 0.3])
    return CENTRES[which] + 0.3 * rng.normal(size=(n, 2))


def figure_kde(out, rng):
    """Score of 40 points: at large sigma that of the distribution, at small sigma the way to the nearest point."""
    points = draw_modes(40, rng)
    empirical = EmpiricalScore(points)
    axis = np.linspace(-3, 3, 17)
    fine = np.linspace(-3, 3, 81)
    fig, axes = new_figure(2.4, ncols=3, sharey=True)
    for panel, (score, sigma, title) in zip(
        axes,
        (
            (MODES, 0.5, "mixture, σ = 0.5"),
            (empirical, 0.5, "40 points, σ = 0.5"),
            (empirical, 0.1, "40 points, σ = 0.1"),
        ),
        strict=True,
    ):
        plane = torch.as_tensor(np.stack(np.meshgrid(fine, fine), -1).reshape(-1, 2))
        density = score.log_density(plane, sigma).exp().reshape(len(fine), -1)
        panel.contourf(fine, fine, density**0.5, levels=8, cmap="Blues")
        grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
        arrows = score(torch.as_tensor(grid), sigma).numpy() * sigma**2  # Tweedie: the way to the posterior mean
        panel.quiver(*grid.T, *arrows.T, angles="xy", scale_units="xy", scale=4, width=0.006)
        panel.grid(False)
        if score is empirical:
            panel.plot(*points.T, ".", color=COLOURS[1], ms=4)
        panel.set(title=title, xlabel="$x_1$", aspect="equal")
    axes[0].set_ylabel("$x_2$")
    save(fig, out, "kde")


def figure_langevin(out, rng):
    """Langevin dynamics from one wide Gaussian, with the exact score: annealed and at the lowest level only."""
    sigmas = np.exp(np.linspace(np.log(5), np.log(0.05), 10))
    n = 800
    begin = torch.as_tensor(rng.normal(size=(n, 2))) + torch.tensor([1.5, 1.0])
    plain = annealed_langevin(MODES, begin, sigmas[-1:], rng, n_steps=400, step=0.3)
    annealed = annealed_langevin(MODES, sigmas[0] * begin, sigmas, rng, n_steps=40, step=0.3)
    panels = {"exact draws": draw_modes(n, rng), "one level": plain.numpy(), "annealed": annealed.numpy()}
    fig, axes = new_figure(2.4, ncols=3, sharey=True)
    for panel, (title, x) in zip(axes, panels.items(), strict=True):
        share = (x.sum(1) < 0).mean()
        print(f"{title}: {share:.3f} of the samples in the heavier mode")
        panel.plot(*x.T, ".", ms=1.5, color=COLOURS[0])
        panel.set(title=f"{title}: {share:.2f}", xlabel="$x_1$", xlim=(-3, 3), ylim=(-3, 3), aspect="equal")
    axes[0].set_ylabel("$x_2$")
    save(fig, out, "langevin")


def save(fig, out, name):
    fig.savefig(out / f"score-matching-{name}.png", dpi=200, metadata={"Software": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    well, probability = double_well()
    with styled():
        figure_well(well, out)
        figure_losses(well, probability, out, rng)
        figure_kde(out, rng)
        figure_langevin(out, rng)


if __name__ == "__main__":
    main()
