"""What an update of a learned chain costs, by route, and how much of that is not the network.

    python benchmarks/proposal_cost.py [--models phi4-A-L8 phi4-A-L16 phi4-A-L32] [--sites 60000] [--json]

Rows: ``model, route, shape, evaluations`` (an update), ``microseconds`` (of an update of one chain), ``ns_per_site``,
``network_ns_per_site, share_outside``. Processor time, all threads together: other work on the machine does not count,
if it leaves the caches alone. An update is one proposal drawn and weighed, S, the columns of the history and the accept
step, by the kernel that `latticediff sample` runs (the SDE redraws the path of the current field first: two paths an
update). The network's part is, of the ODE, a passage of the flow, transforms and sums of the integrator included; of
the SDE as many bare evaluations of the score at one noise level as an update takes. The rest are densities of the
steps, dressing, S, the history, accepting. Tables of noise levels are made once, before.
"""

import argparse
import functools
import json
import math

import numpy as np
from accept_loop import timed

from latticediff.diffusion.compiled import CompiledRidge
from latticediff.metropolis import IndependenceMetropolis
from latticediff.model.storage import load_model
from latticediff.proposal import proposal_for
from latticediff.streams import Streams

ROUTES = {route: functools.partial(proposal_for, route=route) for route in ("ode", "sde")}


def row(name, route, sites):
    """One model and route."""
    model = load_model(name)
    volume = math.prod(model.lattice)
    n = max(16, sites // volume)
    kernel, streams = IndependenceMetropolis(ROUTES[route](model), model.theory), Streams(1)
    state = kernel.hot_start(n, streams)
    update = timed(lambda: kernel.advance(state, streams, 2, 2)) / (2 * n)
    noise = np.random.default_rng(1).standard_normal((n, *model.shape))
    if route == "ode":
        flow = getattr(kernel.proposal, "odd", kernel.proposal).flow
        bare = timed(lambda: flow.down(noise)) / n
    else:
        ridge, flat = CompiledRidge(model.network, model.gaussian, np.zeros(1)), noise.reshape(n, -1)
        bare = timed(lambda: ridge.slope(flat, 0)) / n * kernel.evaluations_per_update
    return {
        "model": name,
        "route": route,
        "shape": list(model.lattice),
        "evaluations": kernel.evaluations_per_update,
        "microseconds": 1e6 * update,
        "ns_per_site": 1e9 * update / volume,
        "network_ns_per_site": 1e9 * bare / volume,
        "share_outside": 1 - bare / update,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["phi4-A-L8", "phi4-A-L16", "phi4-A-L32", "phi4-A-L64"])
    parser.add_argument("--routes", nargs="+", default=list(ROUTES), choices=list(ROUTES))
    parser.add_argument("--sites", type=int, default=60_000, help="of all chains together")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args()
    for name in arguments.models:
        for route in arguments.routes:
            found = row(name, route, arguments.sites)
            if arguments.json:
                print(json.dumps(found), flush=True)
                continue
            print(
                f"{name:12} {route}  {found['evaluations']:4} evaluations  {found['microseconds']:9.1f} us/update"
                f"  {found['ns_per_site']:8.0f} ns/site, network {found['network_ns_per_site']:6.0f}:"
                f" {100 * found['share_outside']:3.0f} % outside",
                flush=True,
            )


if __name__ == "__main__":
    main()
