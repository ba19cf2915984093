"""Figure `critical-slowing-down.png` from rows of `python benchmarks/critical_slowing_down.py --out`.

python docs/figures/critical_slowing_down.py    # rows: docs/critical-slowing-down.jsonl
"""

import json
from pathlib import Path

from latticediff.report.style import COLOURS, MARKERS, TAU, legend, new_figure, styled

HERE = Path(__file__).parent
NAMES = {
    "hmc": "HMC, searched",
    "hmc_unit": "HMC, unit trajectories",
    "fourier_hmc": "Fourier HMC",
    "cluster": "cluster",
    "learned": "learned, accurate",
    "fast": "learned, fast",
    "coarse": "coarse to fine",
}
QUANTITIES = (
    ("tau_int", rf"{TAU} of $|m|$, updates", 1.0),
    ("processor_seconds_per_independent", r"ms for an independent $|m|$", 1e3),
)


def main():
    lines = (HERE.parent / "critical-slowing-down.jsonl").read_text().splitlines()
    rows = sorted((row for row in map(json.loads, lines) if "L" in row), key=lambda row: row["L"])
    with styled():
        figure, axes = new_figure(6.0, nrows=2, sharex=True)
        for ax, (key, label, unit) in zip(axes, QUANTITIES, strict=True):
            for (name, title), colour, marker in zip(NAMES.items(), COLOURS, MARKERS, strict=False):
                mine = sorted(
                    (row for row in rows if row["algorithm"] == name and "L" in row), key=lambda row: row["L"]
                )
                values, errors = zip(*(row[key]["abs_m"] for row in mine), strict=True)
                values, errors = ([unit * number for number in numbers] for numbers in (values, errors))
                ax.errorbar([row["L"] for row in mine], values, errors, color=colour, marker=marker, label=title)
            ax.set(xscale="log", yscale="log", ylabel=label)
        ticks = sorted({row["L"] for row in rows})
        axes[-1].set_xticks(ticks, [str(tick) for tick in ticks])
        axes[-1].minorticks_off()
        axes[-1].set_xlabel("L, along ξ = L/4")
        legend(figure, axes[0], outside=True)
        figure.savefig(HERE / "critical-slowing-down.png", dpi=200, metadata={"Software": None})


if __name__ == "__main__":
    main()
