r"""From coarse to fine: a flow on a quarter of the sites, exact one-site maps on the next quarter, measured.

    python benchmarks/coarse_to_fine.py ENSEMBLE FOLDER [--fast phi4-A-L16-fast] [--evaluations 7 9 11] [--check]

ENSEMBLE is a file of a phi^4 theory on L x L, L a multiple of 8, FOLDER keeps what is trained. The odd sites, which the
fast models flow as a whole (theory page, eq. 15e), are split once more (`fine_given_coarse.py`):

.. math:: q(odd) = q_C(C)\,\prod_k q(F_k | C, F_1 \ldots F_{k-1}), \qquad \log w = -S_{odd} - \log q(odd) .

q_C is a probability flow of the package's own ridge network, with the options of the fast models, on the L/2 x L/2
array of coarse sites. Its theory is known through the fine law: see `CoarseTheory`. The colours of F are drawn one
after the other by one-dimensional maps with a known density; nothing is integrated in time there.

Standard output has JSON rows: the shipped model that is compared with; the processor time of the parts, in units of a
whole draw of that model ("rest" is what a draw takes beside the flow, even sites above all; "fine" is the compiled
kernel of `fine_kernel.py`); and for each number of evaluations of q_C

``L, evaluations, ess_reverse [v, e], ess_forward [v, e], acceptance, tau_int_abs_m [v, e], doubling_spread`` (of
log_weight under twice the steps), ``bias`` (that spread times its largest correlation with |m|, m^2, phi^2, S),
``ess_reverse_compiled`` (with F and its density from the compiled kernel), ``time`` of a draw and ``price`` of an
independent |m|, both relative to the shipped model; compare prices at equal ``bias``.

``--check`` prints log q against the full Jacobian of the map from noise to the odd sites.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from fine_given_coarse import FineLaw, coarse_parts, forces, odd_action, rows_of, train
from fine_kernel import FineKernel
from integration_error import STEP, exact_flow

from latticediff.action import OddSites
from latticediff.action.checkerboard import join, split
from latticediff.analysis import ess_forward, ess_reverse, field_series, integration_bias, tau_int
from latticediff.diffusion.ladder import NoiseRange
from latticediff.ensemble import Ensemble
from latticediff.gaussian.propagator import measured_propagator, smooth_propagator
from latticediff.gaussian.reference import GaussianReference
from latticediff.host import torch_defaults
from latticediff.lattice import momenta
from latticediff.metropolis import doubling_error
from latticediff.model.score_model import ScoreModel
from latticediff.model.storage import load_model
from latticediff.networks.ridge.network import RidgeNetwork
from latticediff.proposal import OdeProposal, proposal_for
from latticediff.training import Task, Trainer, TrainingData, TrainingPlan
from latticediff.training.finetune import FineTuner, FineTuningPlan

SIGMA_MIN = 0.03
FORCES = 2**22  # field values of the rows that the fine law is trained on


class CoarseTheory:
    """The theory of C for the training of a flow: its force is known to second order in the error of the fine law.

    With F drawn from q(F | C), the mean of ``-grad_C [S(C, F) + log q(F | C)]`` is the force of the marginal theory of
    C up to terms of second order in q - p, for the gradient of log q has mean zero and the bracket hardly depends on F.
    The value of S that it names, with F at fixed quantiles, serves the fit of time grids, where only differences at
    nearly equal fields matter; no weight is ever made of it.
    """

    ndim, is_symmetric, unit_vectors, hopping, minima = 2, True, None, 0.0, (0.0,)
    name = "coarse"

    def __init__(self, law, fields):
        self.law, self.kernel, self.M = law, FineKernel(law), law.geometry.M
        self._rng = np.random.default_rng(5)
        self._fixed = np.random.default_rng(6).random((1, self.M**2))
        self._forces = {}
        self._fit(fields)

    def _fit(self, fields):
        """The linear and cubic part of the force by least squares on fields (n, M, M)."""
        near = sum(np.roll(fields, s, a) for s in (1, -1) for a in (1, 2))
        across = sum(np.roll(fields, (s, t), (1, 2)) for s in (1, -1) for t in (1, -1))
        straight = sum(np.roll(fields, s, a) for s in (2, -2) for a in (1, 2))
        columns = np.stack([fields, near, across, straight, 4 * fields**3], -1).reshape(-1, 5)
        found = np.linalg.lstsq(columns, -self.force(fields).ravel(), rcond=None)[0]
        self.couplings, self.b = found[:4], float(found[4])

    def _parts(self, phi):
        phi = np.asarray(phi, np.float64)
        return phi.reshape(-1, self.M**2), phi.shape

    def __call__(self, phi):
        rows, shape = self._parts(phi)
        out = np.full(len(rows), np.inf)
        sound = np.abs(rows).max(1) < self.law.site.edge
        if sound.any():
            x, log_q = self.kernel.draw(rows[sound], np.repeat(self._fixed, sound.sum(), 0))
            out[sound] = odd_action(self.law.site.theory, x, self.M) + log_q
        return out.reshape(shape[:-2])

    def force(self, phi):
        rows, shape = self._parts(phi)
        edge = 0.98 * self.law.site.edge
        rows = np.clip(rows, -edge, edge)
        u = self._rng.random(rows.shape)
        out = [coarse_parts(self.law, rows[i : i + 512], u[i : i + 512]) for i in range(0, len(rows), 512)]
        return -np.concatenate(out).reshape(shape)

    def quadratic_form(self, shape):
        k = momenta(shape)
        waves = [1.0, 2 * sum(map(np.cos, k)), 4 * np.cos(k[0]) * np.cos(k[1]), 2 * sum(np.cos(2 * q) for q in k)]
        return sum(c * w for c, w in zip(self.couplings, waves, strict=True)) * np.ones(shape)

    def local_force(self, phi, variance=0.0, vacuum=0.0):
        return 4 * self.b * (phi**3 + 3 * variance * phi)

    def local_curvature(self, phi, variance=0.0):
        return 12 * self.b * (phi**2 + variance)

    def wider_force(self, phi):
        fields = phi.detach().double().numpy() if isinstance(phi, torch.Tensor) else np.asarray(phi)
        linear = np.fft.ifft2(np.fft.fft2(fields) * self.quadratic_form(fields.shape[-2:])).real
        rest = -self._remembered(fields) - linear - self.local_force(fields)
        return phi.new_tensor(rest) if isinstance(phi, torch.Tensor) else rest

    def _remembered(self, fields):
        """`force`, computed once for every field of the training data."""
        names = [row.tobytes() for row in fields.astype(np.float32)]
        if new := [number for number, name in enumerate(names) if name not in self._forces]:
            self._forces |= zip((names[i] for i in new), self.force(fields[new]), strict=True)
        return np.array([self._forces[name] for name in names])

    def describe(self):
        return {"name": self.name, "of": self.law.site.theory.describe()}


@torch_defaults()
def coarse_flow(theory, fields, n_chains, folder, options, say):
    """A `ScoreModel` of C, score-matched and fine-tuned on fields (n, M, M); trained weights are kept in `folder`."""
    shape, half = fields.shape[1:], len(fields) // 2
    form = theory.quadratic_form(shape)
    first, second = (measured_propagator([part], shape, form=form) for part in (fields[:half], fields[half:]))
    gaussian = GaussianReference(theory, smooth_propagator(first, second))
    torch.manual_seed(1)
    network = RidgeNetwork(2, features=8, inputs=2, outputs=1, ordered=True, screened=True)
    noise = NoiseRange(SIGMA_MIN, options.sigma_max_factor * gaussian.g_max**0.5)
    data = TrainingData(fields, n_chains=n_chains, held_out=0.08, theory=theory)
    data.symmetries = data.symmetries[:1]  # every field of a batch is one whose force is known
    sites = shape[0] * shape[1]
    for name, steps in (("matched", options.matching), ("tuned", options.finetuning)):
        if (folder / f"{name}.pt").exists():
            network.load_state_dict(torch.load(folder / f"{name}.pt"))
            continue
        if name == "matched":
            plan = TrainingPlan(steps=steps, batch=max(8, 2**13 // sites), learning_rate=1e-2, seed=1)
            trainer = Trainer(network, Task(gaussian, data), noise, plan)
        else:
            plan = FineTuningPlan(steps=steps, batch=max(4, 2**11 // sites), learning_rate=2e-3, integration_steps=8,
                                  check_every=steps, n_check=256, seed=1)  # fmt: skip
            trainer = FineTuner(network, Task(gaussian, data), noise, plan)
        trainer.fit()
        began = time.process_time()
        network = trainer.run(log=lambda row: say(json.dumps(row)), log_every=100)
        say(f"{name}: {time.process_time() - began:.0f} s of processor time")
        torch.save(network.state_dict(), folder / f"{name}.pt")
    return ScoreModel.for_flow(network, gaussian, noise)


def whole_fields(theory, x, M, rng):
    """Fields (n, L, L) of rows (C, F), the even sites drawn from their exact law."""
    phi = np.zeros((len(x), 2 * M, 2 * M))
    phi[:, 0::2, 1::2], phi[:, 1::2, 0::2] = (part.reshape(-1, M, M) for part in (x[:, : M * M], x[:, M * M :]))
    odd = split(phi)[0]
    return join(odd, theory.draw_even(odd, rng.integers(2**64, size=len(odd), dtype=np.uint64)))


def tau_of(log_weight, abs_m, n_blocks=8, n_orders=16):
    """tau_int of |m| with its error, and acceptance, of independence chains that take these draws in many orders."""
    rng, taus, accepted = np.random.default_rng(3), [], []
    for block in np.array_split(np.arange(len(log_weight)), n_blocks):
        order = np.array([rng.permutation(block) for _ in range(n_orders)])
        now, chain = order[:, 0], np.empty(order.shape)
        for step in range(order.shape[1]):
            moved = np.log(rng.random(n_orders)) < log_weight[order[:, step]] - log_weight[now]
            now = np.where(moved, order[:, step], now)
            accepted.append(moved.mean())
            chain[:, step] = abs_m[now]
        taus.append(tau_int(chain).value)
    return [float(np.mean(taus)), float(np.std(taus, ddof=1) / math.sqrt(n_blocks))], float(np.mean(accepted))


def quality(theory, log_weight, forward, error, fields):
    """ESS both ways, tau_int of |m|, and what the integration error does to averages."""
    series = field_series(fields, theory.whole)
    tau, acceptance = tau_of(log_weight, np.abs(fields.mean((1, 2))))
    known = np.isfinite(error)
    bias = integration_bias(error[known], {name: values[: len(error)][known] for name, values in series.items()})
    reverse, given = ess_reverse(log_weight), ess_forward(forward)
    return {
        "ess_reverse": [reverse.value, reverse.error],
        "ess_forward": [given.value, given.error],
        "acceptance": acceptance,
        "tau_int_abs_m": tau,
        "doubling_spread": bias.std,
        "bias": bias.std * max(abs(value) for value, _ in bias.correlations.values()),
    }


def log_q_of(law, x):
    """log q(F | C) of rows, (n,), in parts."""
    return torch.cat([law.log_q(part) for part in torch.as_tensor(x).split(1000)]).numpy()


def measure(theory, law, proposal, held_out, n, n_doubled):
    """Quality of C from `proposal` and F from `law`, in float64."""
    M, rng = law.geometry.M, np.random.default_rng(2)
    draw = proposal.draw(n, rng)
    coarse, u = torch.as_tensor(draw.phi.reshape(n, -1)), torch.as_tensor(rng.random((n, M * M)))
    x = torch.cat([law.draw(*part) for part in zip(coarse.split(1000), u.split(1000), strict=True)]).numpy()
    log_weight = -odd_action(theory, x, M) - draw.log_q - log_q_of(law, x)
    forward = -odd_action(theory, held_out, M) - log_q_of(law, held_out)
    forward -= proposal.weigh(held_out[:, : M * M].reshape(-1, M, M))
    error = doubling_error(proposal, draw.phi[:n_doubled], draw.log_q[:n_doubled])
    found = quality(theory, log_weight, forward, error, whole_fields(theory, x, M, rng))
    y, fine = FineKernel(law).draw(x[:, : M * M], rng.random((n, M * M)))
    compiled = ess_reverse(-odd_action(theory, y, M) - draw.log_q - fine)
    return found | {"ess_reverse_compiled": [compiled.value, compiled.error]}


def check(law, model, n=3):
    """log q against the full Jacobian of the map from noise to (C, F), all in float64, and the round trip of F.

    Noise of C is normal, that of F uniform; 64 Runge-Kutta steps, whose integration error is below what is looked at.
    """
    M2, rng = law.geometry.M**2, np.random.default_rng(4)
    down, _ = exact_flow(OdeProposal(model, 64, "rk4"))

    def mapped(noise):
        coarse, log_q = down(noise[:, :M2].reshape(-1, *model.shape))
        x = law.draw(torch.as_tensor(coarse.reshape(-1, M2)), torch.as_tensor(noise[:, M2:]))
        return x.numpy(), log_q + law.log_q(x).numpy()

    noise = np.concatenate([rng.standard_normal((n, M2)), rng.uniform(0.05, 0.95, (n, M2))], 1)
    x, log_q = mapped(noise)
    error = np.empty(n)
    for i in range(n):
        ends = mapped(np.concatenate([noise[i] + STEP * np.eye(2 * M2), noise[i] - STEP * np.eye(2 * M2)]))[0]
        log_det = np.linalg.slogdet((ends[: 2 * M2] - ends[2 * M2 :]) / (2 * STEP))[1]
        error[i] = log_q[i] + log_det + 0.5 * (noise[i, :M2] ** 2).sum() + 0.5 * M2 * math.log(2 * math.pi)
    trip = np.abs(law.levels(torch.as_tensor(x)) - noise[:, M2:]).max()
    return {"jacobian_error": np.abs(error).max(), "round_trip": trip}


def timed(functions, rounds=40):
    """Least processor time of each function, taken in turn."""
    best = [math.inf] * len(functions)
    for _ in range(rounds):
        for number, function in enumerate(functions):
            began = time.process_time()
            function()
            best[number] = min(best[number], time.process_time() - began)
    return best


def prices(law, proposals, fast, n=256):
    """Processor time of a proposal's parts, in units of the whole draw of the shipped fast model; one thread."""
    M, rng = law.geometry.M, np.random.default_rng(7)
    kernel, u = FineKernel(law), rng.random((n, M * M))
    coarse = proposals[0].draw(n, rng).phi.reshape(n, -1)
    x, log_q = kernel.draw(coarse, u)
    noise, noise_fast = rng.standard_normal((n, M, M)), rng.standard_normal((n, *fast.odd.noise_shape))
    jobs = [lambda: fast.draw(n, rng), lambda: fast.odd.flow.down(noise_fast), lambda: kernel.draw(coarse, u)]
    jobs += [lambda flow=p.flow: flow.down(noise) for p in proposals]
    for job in jobs:
        job()  # compiles
    whole, flow, fine, *flows = timed(jobs)
    deviation = law.in_double().log_q(torch.as_tensor(x)).numpy() - log_q
    return {
        "fast_flow": flow / whole,
        "rest": 1 - flow / whole,
        "fine": fine / whole,
        "coarse": [one / whole for one in flows],
        "fine_ns_per_site": 1e9 * fine / n / M**2,
        "fast_ns_per_site_and_evaluation": 1e9 * flow / n / noise_fast[0].size / fast.odd.flow.evaluations,
        "coarse_ns_per_site_and_evaluation": [
            1e9 * one / n / M**2 / p.flow.evaluations for one, p in zip(flows, proposals, strict=True)
        ],
        "kernel_deviation": float(deviation.std()),
    }


def of_fast(proposal, held_out, options):
    """`quality` of a shipped model of the odd sites, whose even sites are drawn likewise."""
    theory, draw = proposal.theory, proposal.draw(options.n, np.random.default_rng(2))
    log_weight = -theory.whole(draw.phi) - draw.log_q
    forward = -theory.whole(held_out) - proposal.weigh(held_out)
    error = doubling_error(proposal, draw.phi[: options.doubled], draw.log_q[: options.doubled])
    return {"evaluations": proposal.steps} | quality(theory, log_weight, forward, error, draw.phi)


def fine_law(theory, x, folder, options, say):
    """The law of F given C, trained on rows x by force matching, or as it lies in `folder`."""
    law, place = FineLaw(theory, math.isqrt(x.shape[1] // 2), options.features), folder / "fine.pt"
    if place.exists():
        law.load_state_dict(torch.load(place))
    else:
        some = torch.as_tensor(x[: min(len(x), FORCES // x.shape[1])]).float()
        batch = max(8, 2**14 // x.shape[1])
        train(law, some, forces(law, some), options.fine_steps, batch, 1e-2, say)
        torch.save(law.state_dict(), place)
    return law.requires_grad_(False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ensemble")
    parser.add_argument("folder", type=Path, help="keeps what was trained; what it lacks is trained now")
    parser.add_argument("--fast", help="shipped model to compare with")
    parser.add_argument("--features", type=int, default=8, help="of the fine law")
    parser.add_argument("--fine-steps", type=int, default=1200)
    parser.add_argument("--matching", type=int, default=1500)
    parser.add_argument("--finetuning", type=int, default=1000)
    parser.add_argument("--sigma-max-factor", type=float, default=1.5)
    parser.add_argument("--evaluations", type=int, nargs="*", default=[7, 9, 11, 13], help="of the coarse flow")
    parser.add_argument("--n", type=int, default=8000, help="draws")
    parser.add_argument("--forward", type=int, default=2000, help="configurations that were not trained on")
    parser.add_argument("--doubled", type=int, default=800, help="draws whose integration error is measured")
    parser.add_argument("--check", action="store_true", help="log q against the full Jacobian; for 8x8 and 16x16")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)

    def say(text, **_):
        print(text, file=sys.stderr, flush=True)

    with Ensemble(options.ensemble) as ensemble:
        phi = ensemble.take(np.arange(ensemble.n_cfg)).astype(float)
        n_chains, whole = ensemble.n_chains, ensemble.action
    theory, M = OddSites(whole), phi.shape[1] // 2
    n_train = n_chains - max(1, n_chains // 8)
    apart = np.arange(len(phi)) % n_chains >= n_train
    x, held_out = rows_of(phi[~apart]), rows_of(phi[apart])
    law = fine_law(theory, x, options.folder, options, say)
    double = law.in_double()
    fields = x[:, : M * M].reshape(-1, M, M)
    coarse = CoarseTheory(law, fields[:2000])
    model = coarse_flow(coarse, fields, n_train, options.folder, options, say)
    if options.check:
        print(json.dumps({"L": 2 * M} | check(double, model)), flush=True)
    proposals = [OdeProposal(model, steps, "adams5", grid="optimised") for steps in options.evaluations]
    rows = []
    for proposal in proposals:
        found = measure(theory, double, proposal, held_out[: options.forward], options.n, options.doubled)
        rows.append({"L": 2 * M, "evaluations": proposal.steps} | found)
        say(json.dumps(rows[-1]))
    if options.fast and proposals:
        fast = proposal_for(load_model(options.fast))
        today = of_fast(fast, phi[apart][: options.forward], options)
        print(json.dumps({"L": 2 * M, "model": options.fast} | today), flush=True)
        price = prices(law, proposals, fast)
        for row, flow in zip(rows, price.pop("coarse"), strict=True):
            row["time"] = flow + price["fine"] + price["rest"]
            row["price"] = row["time"] * row["tau_int_abs_m"][0] / today["tau_int_abs_m"][0]
        print(json.dumps({"L": 2 * M} | price), flush=True)
    for row in rows:
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
