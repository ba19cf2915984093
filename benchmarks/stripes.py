r"""Stripes of the modulated theory: what an independent orientation costs, learned and by HMC, in turns on one thread.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/stripes.py CARD [--model MODEL] --out rows.jsonl
    python benchmarks/stripes.py CARD --set action.a=0.1 --seconds 30 --settings 3 9 12 3:0.5 --out rows.jsonl
    python benchmarks/stripes.py --table rows.jsonl

With n the mode number nearest to the modulation of the action, :math:`k_\pm = 2\pi n / L (1, \pm 1)` and
:math:`z_\pm = V^{-1/2} \sum_x e^{-i k_\pm x} \phi_x`:

- ``orientation``: :math:`|z_+|^2 - |z_-|^2`, positive for stripes along one diagonal and negative along the other;
- ``ring``: :math:`|z_+|^2 + |z_-|^2`, how well ordered they are; ``wave``: Re z_+, where they are.

HMC runs with every one of `--settings` (trajectory length, or length:mass with Fourier masses) from stripes along
both diagonals with random phases, a third of the chains from fields without order; the learned chain from its own
proposals, with as many trajectories of HMC between them as ``[sampling.kernel]`` of the card asks for. All take turns
of a second of processor time, so that another job on the machine slows all of them alike.

tau_int is that of the gamma method. Where stripes turn seldom the number of turns says more: an orientation that
flips at random, r times an update, has tau_int = 1 / (2 r). A turn is counted where the orientation comes from above
half of its mean modulus to below minus that, or back. The smaller of both values is HMC's in the ratio, which gives
it the benefit of the doubt. With fewer than `FEW` turns both are no more than a lower bound; the line says so, and
is compared with only if there is no other. With ``--spent`` seconds of processor time for data and training the last
figure is the ratio with them on the bill of `SAMPLES` independent orientations.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np

from latticediff.analysis import ess_forward, ess_reverse, tau_int
from latticediff.build.learned import build_kernel, build_proposal
from latticediff.config import load_card
from latticediff.ensemble import Ensemble
from latticediff.hmc import warm_up
from latticediff.model.storage import load_model
from latticediff.streams import Streams

TURN, FEW, SAMPLES = 1.0, 20, 100_000
CHAINS, LEARNED_CHAINS = 24, 20
WARM, FIRST_LENGTH, ACCEPTANCE = 2_000, 6.0, 0.8
NAMES = ("orientation", "ring", "wave")


class Modes:
    """z_+ and z_- of fields, as the docstring of this file defines them."""

    def __init__(self, action, shape):
        self.number = [round(action.modulation * extent / (2 * math.pi)) for extent in shape]
        x, y = np.indices(shape)
        first, second = (
            2 * math.pi * n * at / extent for n, at, extent in zip(self.number, (x, y), shape, strict=True)
        )
        self.phases = first + second, first - second
        self.waves = np.stack([np.exp(-1j * phase).ravel() for phase in self.phases], axis=1) / math.sqrt(x.size)

    def __call__(self, phi):
        """(3, n, n_chains): the observables of `NAMES`."""
        z = phi.reshape(*phi.shape[:2], -1) @ self.waves
        power = np.abs(z) ** 2
        return np.stack([power[..., 0] - power[..., 1], power.sum(axis=-1), z[..., 0].real])

    def starts(self, n, rng, height):
        """Fields (n, *lattice): stripes of both orientations in turn, and every third field without order."""
        noise = 0.3 * rng.standard_normal((n, *self.phases[0].shape))
        for i in range(n):
            if i % 3 < 2:
                noise[i] += height * np.cos(self.phases[i % 3] + rng.uniform(0, 2 * math.pi))
        return noise


class Turns:
    """A kernel that runs in turns, and the observables of its chains."""

    def __init__(self, kernel, state, streams, modes, n):
        self.kernel, self.state, self.streams, self.modes, self.n = kernel, state, streams, modes, n
        self.clear()

    def clear(self):
        self.seconds, self.series, self.accepted, self.log_weight = 0.0, [], [], []

    def advance(self):
        begun = time.process_time()
        while time.process_time() - begun < TURN:
            self.state, block = self.kernel.advance(self.state, self.streams, self.n)
            self.series.append(self.modes(block.phi))
            last = f"{len(getattr(self.kernel, 'parts', ())) - 1}_accepted"  # of the proposals, where HMC goes before
            self.accepted.append(block.info.get(last, block.info["accepted"]).mean())
            if "log_weight" in block.info:
                self.log_weight.append(block.info["log_weight"].ravel())
        self.seconds += time.process_time() - begun

    def row(self):
        series = np.concatenate(self.series, axis=1).transpose(0, 2, 1)  # (3, n_chains, n_updates)
        each = self.seconds / series[0].size
        found = {
            "chains": series.shape[1],
            "updates": series.shape[2],
            "microseconds": 1e6 * each,
            "acceptance": float(np.mean(self.accepted)),
            "ring": float(series[1].mean()),
            "ordered": float(np.abs(series[0]).mean() / series[1].mean()),
            "turns": turns(series[0]),
        }
        for name, values in zip(NAMES, series, strict=True):
            tau = tau_int(values, name=name)
            found[f"tau_{name}"] = [tau.value, tau.error]
        found["tau_by_turns"] = by_turns(found["turns"], series[0].size)
        if self.log_weight:
            ess = ess_reverse(np.concatenate(self.log_weight))
            found["ess_reverse"] = [ess.value, ess.error]
        return found


def turns(orientation):
    """How often the orientation changes sign, counted as the docstring of this file says; (n_chains, n_updates)."""
    high = 0.5 * np.abs(orientation).mean()
    signs = [np.sign(chain[np.abs(chain) > high]) for chain in orientation]
    return int(sum((np.diff(sign) != 0).sum() for sign in signs))


def by_turns(n, updates):
    """``[tau_int, error]`` of an orientation that turned n times in so many updates; without a turn a lower bound."""
    return [updates / (2 * n), updates / (2 * n**1.5)] if n else [updates / 2, math.inf]


def hmc(card, setting, modes, streams):
    """A kernel with a length, or ``length:mass``, tuned on chains that have found their stripes, and these chains."""
    length, _, mass = setting.partition(":")
    options = {"target_acceptance": ACCEPTANCE, "integrator": "omelyan2", "jitter": 0.1}
    phi = modes.starts(CHAINS, streams.generator("starts"), 1.5)
    first = streams.child("first")
    kernel, state = warm_up(card.theory(), phi, first, trajectory_length=FIRST_LENGTH, **options)
    state, _ = kernel.advance(state, first, WARM, thin=WARM)
    options |= {"trajectory_length": float(length), "mass": float(mass) if mass else None}
    return warm_up(card.theory(), state.phi, streams, **options)


def both_ways(card, model, ensemble, n=2_000):
    """Forward ESS from held-out configurations of both orientations, reflected in turn: an exact symmetry."""
    with Ensemble(ensemble) as file:
        apart = max(1, round(0.125 * file.n_chains))
        phi = file.phis().reshape(-1, file.n_chains, *file.shape)[:, -apart:].reshape(-1, *file.shape)
    phi = phi[:: max(1, len(phi) // n)].copy()
    phi[::2] = phi[::2, :, ::-1]
    log_weight = -model.theory(phi) - build_proposal(card, model, "ode").weigh(phi)
    ess = ess_forward(log_weight)
    return [ess.value, ess.error], float(log_weight.max() - np.median(log_weight))


def measure(card, settings, seconds, folder=None, ensemble=None, spent=None):
    """A row for the table."""
    action, streams = card.theory(), Streams(card.run.seed).child("stripes")
    modes = Modes(action, card.shape)
    samplers = {}
    for setting in settings:
        branch = streams.child(f"hmc-{setting}")
        samplers[setting] = Turns(*hmc(card, setting, modes, branch), branch, modes, 100)
    row = {"name": card.run.name, "couplings": action.couplings, "shape": list(card.shape), "modes": modes.number}
    if folder is not None:
        model = load_model(folder)
        kernel = build_kernel(card, model, "ode")
        samplers["learned"] = Turns(kernel, kernel.hot_start(LEARNED_CHAINS, streams), streams, modes, 20)
        if ensemble is not None:
            row["ess_forward"], row["largest_forward_log_weight"] = both_ways(card, model, ensemble)
    for sampler in samplers.values():  # what compiles does not count
        sampler.advance()
        sampler.clear()
    while min(sampler.seconds for sampler in samplers.values()) < seconds:
        for sampler in samplers.values():
            sampler.advance()
    row["hmc"] = {setting: samplers[setting].row() for setting in settings}
    if folder is not None:
        row["learned"] = samplers["learned"].row()
        row["ratios"] = {name: ratio(row, name) for name in NAMES}
        if spent is not None:
            row["spent"] = spent
            ours, theirs = cost(row["learned"], "orientation"), cheapest(row, "orientation")[1]
            row["amortised"] = SAMPLES * theirs / (SAMPLES * ours + spent)
    return row


def cost(found, name, doubt=False):
    """Seconds of processor time for an independent value; `doubt`: by the smaller tau_int of the orientation."""
    tau = found[f"tau_{name}"][0]
    if doubt and name == "orientation":
        tau = min(tau, max(0.5, found["tau_by_turns"][0]))
    return 2e-6 * tau * found["microseconds"]


def cheapest(row, name):
    """The setting of HMC with the least cost, and this cost; of an orientation only those that have turned often."""
    rows = row["hmc"]
    often = {setting: found for setting, found in rows.items() if found["turns"] >= FEW}
    costs = {setting: cost(found, name, True) for setting, found in (often or rows).items()}
    return min(costs.items(), key=lambda pair: pair[1])


def ratio(row, name):
    """How many times cheaper an independent value is by the learned chain than by the cheapest HMC."""
    return cheapest(row, name)[1] / cost(row["learned"], name)


def table(rows):
    """The rows for a page of the docs: a line for every sampler of every coupling."""
    lines = [
        "| a | sampler | microseconds an update | acceptance | turns, of updates | tau_int of the orientation"
        " | by turns | of the ring | of Re z | seconds for an independent orientation |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        samplers = {f"HMC, {setting}": found for setting, found in row["hmc"].items()}
        if "learned" in row:
            samplers["learned"] = row["learned"]
        for name, found in samplers.items():
            few = " (few)" if found["turns"] < FEW else ""
            taus = [found["tau_orientation"], found["tau_by_turns"], found["tau_ring"], found["tau_wave"]]
            told = " | ".join("{:.3g}({:.1g})".format(*tau) for tau in taus)
            lines.append(
                f"| {row['couplings']['a']} | {name} | {found['microseconds']:.3g} | {found['acceptance']:.2f}"
                f" | {found['turns']}{few} in {found['chains'] * found['updates']:,} | {told}"
                f" | {cost(found, 'orientation', name != 'learned'):.3g} |"
            )
        if "learned" in row:
            ratios = ", ".join(f"{name} {value:.3g}" for name, value in row["ratios"].items())
            both = ["ESS {:.3g}({:.1g})".format(*row["learned"]["ess_reverse"])]
            if "ess_forward" in row:
                both.append("forward {:.3g}({:.1g})".format(*row["ess_forward"]))
            bill = f"; with {row['spent']:.0f} s spent, {row['amortised']:.3g}" if "spent" in row else ""
            lines.append(f"\n{'; '.join(both)}; HMC over learned: {ratios}{bill}\n")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("card", nargs="?")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--model")
    parser.add_argument("--ensemble", help="for the forward ESS, by held-out chains")
    parser.add_argument("--settings", nargs="+", default=["6", "9", "12"], help="of HMC: length, or length:mass")
    parser.add_argument("--seconds", type=float, default=60.0, help="of processor time, each sampler")
    parser.add_argument("--spent", type=float, help="seconds of processor time for data and training")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", type=Path)
    options = parser.parse_args()
    if options.table:
        print(table([json.loads(line) for line in options.table.read_text().splitlines()]))
        return
    card = load_card(options.card, options.overrides)
    row = measure(card, options.settings, options.seconds, options.model, options.ensemble, options.spent)
    print(table([row]))
    if options.out:
        with open(options.out, "a") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
