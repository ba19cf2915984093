"""The main job against its targets: run the demo card in a process of its own, print one JSON object per row.

    python benchmarks/main_job.py [--card configs/demo.toml] [--out FOLDER] [--json]

Rows: wall and processor seconds and peak memory of the whole job, seconds of each stage, and for each learned chain
acceptance, both ESS, the largest forward log_weight above its mean, tau_int(|m|), the largest deviation
of an observable from HMC in combined sigma, and seconds per independent sample. Targets are those of
the project for two CPU cores; a row that misses one says so. Nothing is asserted.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

#: quantity -> (bound, whether it is a lower bound)
TARGETS = {
    "seconds_total": (90, False),
    "peak_memory_gb": (1.5, False),
    "acceptance_ode": (0.90, True),
    "ess_reverse_ode": (0.97, True),
    "ess_forward_ode": (0.97, True),
    "largest_forward_log_weight_ode": (2.0, False),
    "log_weight_step_doubling_median": (1e-3, False),
    "acceptance_sde": (0.60, True),
    "largest_deviation_sigma_ode": (3.0, False),
    "largest_deviation_sigma_sde": (3.0, False),
}


def rows_of(folder, seconds, processor, memory):
    """Rows of a finished run folder."""
    report = json.loads((folder / "report.json").read_text())
    values = {"seconds_total": seconds, "processor_seconds_total": processor, "peak_memory_gb": memory}
    values |= {f"seconds_{stage}": value for stage, value in report["seconds"].items() if stage != "total"}
    values["log_weight_step_doubling_median"] = report["checks"]["log_weight_step_doubling_median"]
    values["log_weight_step_doubling_max"] = report["checks"]["log_weight_step_doubling_max"]
    reference = report["chains"]["hmc"]["observables"]
    for route in ("ode", "sde"):
        chain = report["chains"][route]
        for key in ("acceptance", "ess_reverse", "ess_forward"):
            values[f"{key}_{route}"] = chain[key]
        forward = np.load(folder / f"weights_{route}.npz")["log_weight"]
        values[f"n_forward_{route}"] = len(forward)
        values[f"largest_forward_log_weight_{route}"] = float(forward.max() - forward.mean())
        deviations = []
        for name, (value, error) in chain["observables"].items():
            deviations.append(abs(value - reference[name][0]) / np.hypot(error, reference[name][1]))
        values[f"largest_deviation_sigma_{route}"] = float(max(deviations))
        values[f"tau_int_abs_m_{route}"] = chain["tau_int"]["abs_m"]
    for name, chain in report["chains"].items():
        values[f"seconds_per_independent_sample_{name}"] = chain["seconds_per_independent_sample"]
    for quantity, value in values.items():
        row = {"quantity": quantity, "value": value}
        if quantity in TARGETS:
            bound, lower = TARGETS[quantity]
            row |= {"target": bound, "met": bool(value is not None and (value >= bound if lower else value <= bound))}
        yield row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--card", default="configs/demo.toml")
    parser.add_argument("--out", help="run folder to keep; default: a temporary one")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(arguments.out or Path(scratch) / "run")
        command = [sys.executable, "-m", "latticediff", "run", arguments.card, "--out", str(folder)]
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=sys.stderr)
        seconds = time.perf_counter() - began
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        unit = 1 if sys.platform == "darwin" else 1024
        memory = spent.ru_maxrss * unit / 1e9
        for row in rows_of(folder, seconds, spent.ru_utime + spent.ru_stime, memory):
            if arguments.json:
                print(json.dumps(row))
            else:
                goal = f"  target {row['target']}: {'met' if row['met'] else 'MISSED'}" if "target" in row else ""
                print(f"{row['quantity']:40} {row['value']}{goal}")


if __name__ == "__main__":
    main()
