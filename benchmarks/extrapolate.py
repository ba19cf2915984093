"""What lattices beyond one machine would take: a model written here, on numbers that were measured on small ones.

    python benchmarks/extrapolate.py [--gpus 1000] [--json]

Nothing is measured. Each entry of `MEASURED` says where its number comes from; the model:

- var(log_weight) grows with the number of sites, as it does from 8x8 to 128x128 at equal training; weights are taken
  as log-normal, so that the ESS is exp(-var), and tau_int is that of an independence chain whose observable does not
  follow the weight: 1/2 + E_pi[R / (1 - R)], with R(w) the probability that a chain at weight w stays.
- A draw takes evaluations x sites x time for one of each; dense transforms take 2 L multiply-adds a site, axis and
  field, fast ones 5 log2 L.
- Each draw stays on one process: chains share nothing. In a training, processes share gradients alone.
"""

import argparse
import json
import math

import numpy as np

MEASURED = {
    "variance": (7.0e-6, 1.4e-5, "of log_weight per site: phi4-A-L128-odd and phi4-A-L128-fast, docs/records.md"),
    "variance_3d": (4.0e-5, 4.0e-5, "the same of phi4-H-3d; nothing was measured in four dimensions"),
    "evaluations": (48, 28, "of a draw at 128x128; 28 to 48 from 32x32 on"),
    "ns": (15.0, 15.0, "a site and evaluation of 8 features on one AVX-512 core, transforms of 64x64 among them"),
    "weights": (17_248, 9_248, "parameters of these networks"),
}
LATTICES = {"128x128": (128, 2), "512x512": (512, 2), "64^3": (64, 3), "32^4": (32, 4)}
STATE = 128  # bytes a site and field of a batch: history of the multistep scheme, slopes, fields in both bases
STAGES = 4 * 12  # states that fine-tuning keeps of a field, by Runge-Kutta with 12 steps, 4 bytes a site each
GRADIENTS = 2e-5, 25e9  # seconds until a message arrives, and bytes a second, of a usual network of GPUs
DISK = 2e9  # bytes a second of a shared file system that one job may take
NETWORK = 700  # multiply-adds a site and evaluation of 8 features 3x3 with their divergence


def tau_int(variance, n=4001):
    """tau_int of an independence chain with log-normal weights, (1/2 where all are equal), by quadrature."""
    s = math.sqrt(variance)
    z = np.linspace(-9, 9, n)
    q = np.exp(-z * z / 2)
    q /= q.sum()
    log_w = s * z - variance / 2  # under q; under pi it is shifted by the variance
    at = log_w + variance
    accepted = np.exp(np.minimum(0.0, log_w[None, :] - at[:, None])) @ q
    return 0.5 + float(q @ ((1 - accepted) / accepted))


def row(name, family, gpus, ns_gpu):
    """One lattice and one family: what a draw, a chain, a training and a file take."""
    extent, ndim = LATTICES[name]
    volume, which = extent**ndim, ("accurate", "fast").index(family)
    get = {key: value[which] for key, value in MEASURED.items()}
    variance = (get["variance"] if ndim == 2 else get["variance_3d"]) * volume
    tau = tau_int(variance)
    work = get["evaluations"] * volume
    steps, batch = 3000, max(1, 2**17 // volume) * gpus
    message = 2 * (gpus - 1) / gpus * 4 * get["weights"] / GRADIENTS[1] + 2 * math.log2(gpus) * GRADIENTS[0]
    compute = (
        3 * 16 * 4 * 2**17 * ns_gpu * 1e-9
    )  # forward and backward of 16 Runge-Kutta steps of the fields of one GPU
    return {
        "lattice": name,
        "family": family,
        "sites": volume,
        "variance": variance,
        "ess": math.exp(-variance),
        "tau_int": tau,
        "evaluations_times_sites": work,
        "core_seconds_per_independent": 2 * tau * work * get["ns"] * 1e-9,
        "gpu_seconds_per_independent": 2 * tau * work * ns_gpu * 1e-9,
        "dense_transforms_per_network": 6 * ndim * extent / NETWORK,
        "fast_transforms_per_network": 6 * ndim * 5 * math.log2(extent) / NETWORK,
        "bytes_per_field_drawn": STATE * volume,
        "bytes_per_field_tuned": 4 * STAGES * volume + STATE * volume,
        "global_batch": batch,
        "gradient_share": message / (message + compute),
        "training_hours": steps * (message + compute) / 3600,
        "bytes_per_configuration": 8 * volume,
        "configurations_per_second_to_disk": DISK / (8 * volume),
        "configurations_per_second_drawn": gpus / (work * ns_gpu * 1e-9),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, default=1000)
    parser.add_argument("--ns", type=float, default=1.5, help="of a site and evaluation on a GPU: a goal, not measured")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for name in LATTICES:
        for family in ("accurate", "fast"):
            found = row(name, family, options.gpus, options.ns)
            print(
                json.dumps(found)
                if options.json
                else "  ".join(f"{k} {v:.3g}" if not isinstance(v, str) else v for k, v in found.items())
            )


if __name__ == "__main__":
    main()
