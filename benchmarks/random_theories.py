"""Theories drawn at random, each given to ``latticediff run`` by a card of nothing but action, lattice and seed.

    python benchmarks/random_theories.py --out rows.jsonl --numbers 0 1 2

One row each: the theory, what the recipe chose, ESS of the ODE route, seconds, or the message with which the run ended.
Numbers 20 to 29 are kept out of the development of the recipe.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from latticediff.action import Phi4

N_THEORIES, HELD_OUT = 30, 20
SHAPES = {1: [32, 48, 64, 128], 2: [6, 8, 12, 16, 20, 24, 32], 3: [4, 6, 8]}


def theory(number):
    """Card of theory `number`: dimension 1 to 3, conventions mixed, symmetric to broken; a function of the number."""
    rng = np.random.default_rng(np.random.SeedSequence([2024, number]))
    ndim = int(rng.choice([1, 2, 2, 2, 3]))
    extent = int(rng.choice(SHAPES[ndim]))
    shape = [extent] * ndim
    if ndim == 2 and rng.random() < 0.3:
        shape[1] = int(rng.choice([6, 8, 10, 16]))
    lam = float(np.exp(rng.uniform(math.log(0.05), math.log(1.5))))  # hopping form
    critical = {1: 0.6, 2: 0.27, 3: 0.19}[ndim]
    kappa = critical * float(rng.uniform(0.6, 1.25))
    kind = rng.choice(["phi4", "phi4", "phi4", "polynomial"])
    if kind == "phi4":
        convention = str(rng.choice(["A", "H", "B", "SL", "N"]))
        couplings, _ = Phi4.H(kappa, lam, ndim).in_convention(convention)
        action = {"convention": convention, **couplings}
    else:
        g6 = float(rng.uniform(0.02, 0.2))
        a2, a4 = 1 - 2 * lam, lam
        tilt = float(rng.choice([0.0, 0.03]))
        action = {"name": "polynomial", "hopping": 2 * kappa, "a1": tilt, "a2": a2, "a4": a4, "a6": g6}
    return {"run": {"seed": number}, "action": action, "lattice": {"shape": shape}}


def toml(card):
    """The card as text."""
    lines = []
    for section, entries in card.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in entries.items()]
    return "\n".join(lines) + "\n"


def row(number, seconds):
    """Run a theory in a folder of its own and say how it ended."""
    card = theory(number)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "card.toml").write_text(toml(card))
        command = [sys.executable, "-m", "latticediff", "run", "card.toml", "--out", "run"]
        began = time.perf_counter()
        try:
            done = subprocess.run(command, cwd=path, capture_output=True, text=True, timeout=seconds, env=os.environ)
        except subprocess.TimeoutExpired:
            return {"number": number, **card, "failed": f"not done after {seconds} s"}
        found = {"number": number, **card, "seconds": time.perf_counter() - began}
        if done.returncode:
            return {**found, "failed": done.stderr.strip().splitlines()[-1]}
        report = json.loads((path / "run" / "report.json").read_text())
        ode = report["chains"]["ode"]
        keys = [key for key in ode if key.startswith(("ess_", "acceptance"))]
        return {**found, "phase": done.stderr.split("phase: ")[-1].splitlines()[0], **{key: ode[key] for key in keys}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--numbers", type=int, nargs="*", default=list(range(N_THEORIES)))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seconds", type=float, default=900.0, help="after which a theory counts as failed")
    arguments = parser.parse_args()
    for number in arguments.numbers:
        found = row(number, arguments.seconds)
        print(json.dumps(found), flush=True)
        if arguments.out:
            with open(arguments.out, "a") as file:
                file.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
