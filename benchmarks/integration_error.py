"""Integration error of the shipped models' log_q: by doubled steps, and on small lattices by the Jacobian of the map.

    python benchmarks/integration_error.py [--models NAME ...] [--n 400] [--jacobians 0] [--json]
    python benchmarks/integration_error.py --table docs/integration-error.jsonl

epsilon is log_q less log_q with twice the steps (`latticediff.metropolis.doubling_error`), on draws of the model and on
configurations of HMC; with ``--jacobians`` it is also log_q less the log-density of the discrete map, whose Jacobian is
taken by central differences in float64, column by column: 2 V passages for a field. That one is what biases a chain.

Rows: ``model, shape, method, grid, steps, evaluations, fields ("draws" or "configurations"), by ("doubling" or
"jacobian"), n, mean, spread [v, e], bias_bound, correlations {action, abs_m, m2, phi2: [v, e]}``.
"""

import argparse
import copy
import json
import math
from pathlib import Path

import numpy as np
import torch

from latticediff.analysis import field_series, integration_bias
from latticediff.build.configurations import fresh_configurations
from latticediff.diffusion.flow import ProbabilityFlow
from latticediff.metropolis import doubling_error
from latticediff.model.shipped import model_names
from latticediff.model.storage import load_model
from latticediff.proposal import proposal_for
from latticediff.proposal.grid import own_scheme
from latticediff.proposal.inversion import invert_passage
from latticediff.streams import Streams

STEP = 1e-4  # of the central differences: errors of 1e-8 from the third derivative, 1e-12 from rounding
ROWS = 512  # fields in one passage of float64
SITES = 2**20  # of all fields of a model at least 40: larger lattices get fewer fields


def exact_flow(proposal):
    """``down`` and ``up`` of a proposal in float64, as functions of arrays."""
    flow = ProbabilityFlow(
        copy.deepcopy(proposal.model.network).double(),
        proposal.model.gaussian.to("cpu", torch.float64),
        proposal.grid.down,
        proposal.method,
        up_grid=proposal.grid.up,
    )

    def passage(way):
        def function(fields):
            parts = [way(torch.as_tensor(fields[i : i + ROWS])) for i in range(0, len(fields), ROWS)]
            return [torch.cat(tensors).numpy() for tensors in zip(*parts, strict=True)]

        return function

    return passage(flow.down), passage(flow.up)


def jacobian_error(proposal, phi):
    """log_q of fields less the log-density of the discrete map that draws them, (n,), all in float64."""
    down, up = exact_flow(proposal)
    noise, _ = invert_passage(down, up, phi, tolerance=1e-9)
    volume, log_q = noise[0].size, down(noise)[1]
    columns, error = STEP * np.eye(volume).reshape(volume, *noise.shape[1:]), np.empty(len(phi))
    for i, x in enumerate(noise):
        ends = down(np.concatenate([x + columns, x - columns]))[0].reshape(2, volume, volume)
        log_det = np.linalg.slogdet((ends[0] - ends[1]) / (2 * STEP))[1]
        error[i] = log_q[i] + 0.5 * (x**2).sum() + 0.5 * volume * math.log(2 * math.pi) + log_det
    return error


def rows(name, n, n_jacobians, seed):
    """All rows of one model."""
    model, streams = load_model(name), Streams(seed).child(name)
    scheme = own_scheme(model)
    proposal = proposal_for(model, **scheme)
    n = min(n, max(40, SITES // model.gaussian.volume))
    draw = proposal.draw(n, streams.generator("draw"))
    assert np.isfinite(draw.log_q).all()
    given = fresh_configurations(model.theory, model.lattice, n, streams).reshape(-1, *model.lattice)[:n]
    about = {"model": name, "shape": list(model.lattice), **{key: scheme[key] for key in ("method", "grid", "steps")}}
    about["evaluations"] = proposal.evaluations_per_draw
    for fields, phi, log_q in (("draws", *draw), ("configurations", given, None)):
        yield told(about, fields, "doubling", doubling_error(proposal, phi, log_q), phi, model.theory)
        if n_jacobians:
            some = phi[:n_jacobians]
            own = getattr(proposal, "odd", proposal)  # of even sites the density is exact
            yield told(about, fields, "jacobian", jacobian_error(own, model.restrict(some)), some, model.theory)


def told(about, fields, by, error, phi, action):
    """One row."""
    bias = integration_bias(error, field_series(phi, action))
    # of the standard deviation, for any distribution
    scatter = ((error - error.mean()) ** 2).std() / (2 * bias.std * math.sqrt(error.size))
    return {
        **about,
        "fields": fields,
        "by": by,
        "n": error.size,
        "mean": bias.mean,
        "spread": [bias.std, float(scatter)],
        "bias_bound": bias.bias_bound,
        "correlations": {key: list(pair) for key, pair in bias.correlations.items()},
    }


def table(path):
    """The rows of a file as the table of ``docs/densities.md``: draws / configurations."""
    rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
    lines = [
        "| model | evaluations | by | fields | mean | spread | bias bound | corr. with S | abs(m) | m^2 |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for draws in (row for row in rows if row["fields"] == "draws"):
        given = next(r for r in rows if r["fields"] != "draws" and all(r[k] == draws[k] for k in ("model", "by")))
        both = [draws, given]
        bound = max(row["bias_bound"] for row in both)
        found = [[row["correlations"][name] for row in both] for name in ("action", "abs_m", "m2")]
        cells = [
            draws["model"],
            str(draws["evaluations"]),
            draws["by"],
            str(draws["n"]),
            " / ".join(f"{row['mean']:.0e}" for row in both),
            " / ".join(f"{row['spread'][0]:.1e}" for row in both),
            f"{bound:.1e}",
            *(" / ".join(f"{r:+.2f}({100 * e:.0f})" for r, e in pair) for pair in found),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=model_names())
    parser.add_argument("--n", type=int, default=400, help="draws, and as many configurations; fewer on large lattices")
    parser.add_argument("--jacobians", type=int, default=0, help="fields whose Jacobian is taken")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--table", metavar="ROWS", help="print the rows of a file as a table, and measure nothing")
    arguments = parser.parse_args()
    if arguments.table:
        print(table(arguments.table))
        return
    for name in arguments.models:
        for row in rows(name, arguments.n, arguments.jacobians, arguments.seed):
            if arguments.json:
                print(json.dumps(row), flush=True)
                continue
            (spread, error), found = row["spread"], row["correlations"]
            correlations = " ".join(f"{key} {r:+.2f}({e:.2f})" for key, (r, e) in found.items())
            print(
                f"{name:20} {row['by']:9} on {row['n']:4} {row['fields']:15} mean {row['mean']:+.1e}"
                f" spread {spread:.1e}({error:.0e}) bound {row['bias_bound']:.1e} correlations {correlations}",
                flush=True,
            )


if __name__ == "__main__":
    main()
