"""One network for a line of couplings and mixed sizes, against one trained at each coupling alone.

    python benchmarks/line_of_couplings.py [--steps 2000] [--json]

Convention A, m2 = -4. HMC ensembles at the couplings `--lam` on L x L and, with `--other-L`, at the first of
them on another lattice. Networks of one size and one number of steps: `alone`, trained at the middle coupling
`--between`; `line`, conditioned, trained at the ends; `plain`, the same without knowing the couplings;
`neighbour`, trained at the first end alone. All are asked for the middle coupling, which only `alone` has
seen: the others get its propagator by interpolation (`ScoreModel.at`). Per row: ESS of the ODE proposals,
reverse and forward (on HMC configurations of the middle coupling), with errors.
"""

import argparse
import json
import warnings

import numpy as np

from latticediff import Phi4, Streams
from latticediff.analysis import ess_forward, ess_reverse
from latticediff.config import parse_card
from latticediff.hmc import warm_up
from latticediff.proposal import OdeProposal
from latticediff.stages.train import Source, build_trainer
from latticediff.training import TrainingData
from latticediff.training.calibrate import finish_model
from latticediff.training.data import by_chain

CARD = """
[run]
seed = 1
[action]
convention = "A"
m2 = -4.0
lam = {lam}
[lattice]
shape = {shape}
[network]
features = {features}
conditioned = {conditioned}
[training]
steps = {steps}
batch = {batch}
learning_rate = 1e-2
sigma_min = 0.01
device = "cpu"
"""


def ensemble(lam, L, n_updates, seed):
    """Configurations of 64 chains, every tenth trajectory."""
    action, streams = Phi4.A(-4.0, lam), Streams(seed)
    start = 0.3 * streams.generator("start").standard_normal((64, L, L))
    kernel, state = warm_up(action, start, streams.child("warmup"), updates_per_round=30)
    return kernel.advance(state, streams.child("run"), n_updates, 10)[1].phi.reshape(-1, L, L)


def model(arguments, lams, conditioned, fields):
    """A model of a network trained on the ensembles of `lams`, the first its own."""
    keys = [*((lam, arguments.L) for lam in lams)]
    if len(lams) > 1 and arguments.other_L:
        keys.append((lams[0], arguments.other_L))
    card = parse_card(
        CARD.format(
            lam=lams[0],
            shape=[arguments.L] * 2,
            features=arguments.features,
            conditioned=str(conditioned).lower(),
            steps=arguments.steps,
            batch=arguments.batch,
        )
    )
    trainer = build_trainer(card, [Source(Phi4.A(-4.0, lam), TrainingData(fields[lam, L], 64)) for lam, L in keys])
    network = trainer.run()
    own, *further = trainer.tasks
    return finish_model(network, own.gaussian, trainer.noise, own.data, None, 0, further)


def rows(arguments):
    low, high = arguments.lam
    fields = {(lam, arguments.L): ensemble(lam, arguments.L, arguments.updates, 3) for lam in (low, high)}
    fields[arguments.between, arguments.L] = ensemble(arguments.between, arguments.L, arguments.updates, 4)
    if arguments.other_L:
        fields[low, arguments.other_L] = ensemble(low, arguments.other_L, arguments.updates, 5)
    action, shape = Phi4.A(-4.0, arguments.between), (arguments.L, arguments.L)
    held_out = fields[arguments.between, arguments.L].reshape(-1, 64, *shape)[:, 56:].reshape(-1, *shape)
    cases = {
        "alone": ([arguments.between], False),
        "line": ([low, high], True),
        "plain": ([low, high], False),
        "neighbour": ([low], False),
    }
    for name, (lams, conditioned) in cases.items():
        trained = model(arguments, lams, conditioned, fields)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the neighbour is asked for what it has not seen, which is the point
            proposal = OdeProposal(trained.at(action, shape, outside=True), 12)
        draw = proposal.draw(arguments.draws, np.random.default_rng(7))
        reverse = ess_reverse(-action(draw.phi) - draw.log_q)
        some = held_out[-arguments.draws :]
        forward = ess_forward(by_chain(-action(some) - proposal.weigh(some), len(some), 8))
        yield {
            "network": name,
            "trained_at": lams,
            "asked_for": arguments.between,
            "ess_reverse": [reverse.value, reverse.error],
            "ess_forward": [forward.value, forward.error],
        }


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--L", type=int, default=8)
    parser.add_argument("--other-L", type=int, default=0)
    parser.add_argument("--lam", type=float, nargs=2, default=[5.5, 6.5])
    parser.add_argument("--between", type=float, default=6.0)
    parser.add_argument("--features", type=int, default=24)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--updates", type=int, default=3000)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args(arguments)
    for row in rows(arguments):
        if arguments.json:
            print(json.dumps(row), flush=True)
        else:
            reverse, forward = row["ess_reverse"], row["ess_forward"]
            print(
                f"{row['network']:10} trained at {row['trained_at']}: ESS {reverse[0]:.3f} +- {reverse[1]:.3f} reverse,"
                f" {forward[0]:.3f} +- {forward[1]:.3f} forward",
                flush=True,
            )


if __name__ == "__main__":
    main()
