"""Coexisting phases: how often a learned chain goes from one to the other, and how often HMC does in the same time.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/coexistence.py CARD MODEL --out rows.jsonl
    python benchmarks/coexistence.py --table rows.jsonl

CARD names theory, lattice and HMC; MODEL is what ``latticediff mix`` wrote. Both samplers run in turns of a second of
processor time each, on one thread, HMC with as many chains as the card says, begun in all phases alike.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from latticediff.analysis import ess_reverse, tau_int
from latticediff.build.classical import tuned_kernel
from latticediff.config import load_card
from latticediff.metropolis import IndependenceMetropolis
from latticediff.model.phases import load_phases
from latticediff.proposal.mixture import MixtureProposal
from latticediff.proposal.own import proposal_for
from latticediff.streams import Streams

LEARNED_CHAINS, TURN = 20, 1.0


class Turns:
    """A kernel that runs in turns, and the phase that each of its chains is in after every update."""

    def __init__(self, kernel, state, streams, parts, n):
        self.kernel, self.state, self.streams, self.parts, self.n = kernel, state, streams, parts, n
        self.seconds, self.phases, self.accepted, self.log_weight = 0.0, [], [], []

    def advance(self, seconds):
        begun = time.process_time()
        while time.process_time() - begun < seconds:
            self.state, block = self.kernel.advance(self.state, self.streams, self.n)
            shape = block.phi.shape[:2]
            phases = self.parts.of(block.phi.reshape(-1, *block.phi.shape[2:])).reshape(shape)
            self.phases.append(phases)
            self.accepted.append(block.info["accepted"].mean())
            if "log_weight" in block.info:
                self.log_weight.append(block.info["log_weight"].ravel())
        self.seconds += time.process_time() - begun

    def row(self):
        phases = np.concatenate(self.phases).T  # (n_chains, n_updates)
        changes = int((np.diff(phases, axis=1) != 0).sum())
        found = {
            "chains": len(phases),
            "updates": phases.shape[1],
            "seconds": self.seconds,
            "changes": changes,
            "acceptance": float(np.mean(self.accepted)),
        }
        if changes:
            tau = tau_int((phases == phases.max()).astype(float), name="phase")
            each = self.seconds / phases.size
            found |= {"tau_int_phase": [tau.value, tau.error], "seconds_per_independent_phase": 2 * tau.value * each}
            top = (phases == phases.max()).mean(axis=1)
            found["share"] = [float(top.mean()), float(top.std(ddof=1) / np.sqrt(len(top)))]
        if self.log_weight:
            ess = ess_reverse(np.concatenate(self.log_weight))
            found["ess_reverse"] = [ess.value, ess.error]
        return found


def measure(card, folder, seconds):
    phases = load_phases(folder, action=card.theory(), shape=card.shape)
    streams = Streams(card.run.seed).child("coexistence")
    mixture = MixtureProposal.of_phases(phases, proposal_for)
    learned = IndependenceMetropolis(mixture, card.theory())
    start = learned.hot_start(LEARNED_CHAINS, streams.child("start"))
    centres = [model.gaussian.vacuum for model in phases.models]
    phi = np.resize(centres, card.hmc.n_chains).reshape(-1, *[1] * len(card.shape))
    phi = phi + 0.05 * streams.generator("hmc-start").standard_normal((card.hmc.n_chains, *card.shape))
    kernel, state = tuned_kernel(card, phi, streams)
    samplers = {
        "learned": Turns(learned, start, streams.child("learned"), phases.parts, 10),
        "hmc": Turns(kernel, state, streams.child("hmc"), phases.parts, 50),
    }
    for sampler in samplers.values():  # what compiles and warms up does not count
        sampler.advance(0.0 + TURN)
        sampler.seconds, sampler.phases, sampler.accepted, sampler.log_weight = 0.0, [], [], []
    while min(sampler.seconds for sampler in samplers.values()) < seconds:
        for sampler in samplers.values():
            sampler.advance(TURN)
    (low, low_error), (high, high_error) = phases.log_z[0], phases.log_z[-1]
    return {
        "name": card.run.name,
        "action": card.theory().describe(),
        "shape": list(card.shape),
        "log_z_difference": [high - low, float(np.hypot(low_error, high_error))],
        **{name: sampler.row() for name, sampler in samplers.items()},
    }


def table(rows):
    """The rows for a page of the docs."""
    lines = [
        "| theory | lattice | log Z, outer phase less inner | ESS | acceptance | changes of phase in 100 updates"
        " | tau_int of the phase | changes of HMC in the same time, of updates |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        learned, hmc = row["learned"], row["hmc"]
        pair = "{:.4g}({:.1g})".format
        per = 100 * learned["changes"] / (learned["chains"] * (learned["updates"] - 1))
        lines.append(
            f"| {row['name']} | {'x'.join(map(str, row['shape']))} | {pair(*row['log_z_difference'])}"
            f" | {learned['ess_reverse'][0]:.4f} | {learned['acceptance']:.3f} | {per:.1f}"
            f" | {learned['tau_int_phase'][0]:.3f}({1000 * learned['tau_int_phase'][1]:.0f})"
            f" | {hmc['changes']} in {hmc['chains'] * hmc['updates']:,} |"
        )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("card", nargs="?")
    parser.add_argument("model", nargs="?")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0, help="of processor time, each sampler")
    parser.add_argument("--table", type=Path)
    arguments = parser.parse_args()
    if arguments.table:
        print(table([json.loads(line) for line in arguments.table.read_text().splitlines()]))
        return
    found = measure(load_card(arguments.card), arguments.model, arguments.seconds)
    print(json.dumps(found))
    if arguments.out:
        with open(arguments.out, "a") as file:
            file.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
