"""Figure `ess-against-L.png` from the rows of `python benchmarks/ess_table.py --json > docs/ess-table.jsonl`.

python docs/figures/ess_against_L.py
"""

import json
from pathlib import Path

import numpy as np

from latticediff.report.style import COLOURS, legend, new_figure, styled

HERE = Path(__file__).parent
#: (L, ESS, label): exact, likelihood-weighted sampling along xi = L/4, convention A, m2 = -4
PUBLISHED = [(32, 0.66, "continuous flow, 2021"), (32, 0.904, "continuous flow, 2022")]


def main():
    rows = [json.loads(line) for line in (HERE.parent / "ess-table.jsonl").read_text().splitlines()]
    rows = sorted((r for r in rows if r["model"].startswith("phi4-A-L")), key=lambda r: r["shape"][0])
    fast, odd, coarse = ([r for r in rows if r["model"].endswith(end)] for end in ("-fast", "-odd", "-coarse"))
    rows = [r for r in rows if r not in fast + odd + coarse]
    L = np.array([r["shape"][0] for r in rows])
    lines = [
        (rows, "ess_reverse", "o", "-", "all sites, reverse"),
        (rows, "ess_forward", "s", "--", "all sites, forward"),
        (odd, "ess_reverse", "P", "-", "odd sites, reverse"),
        (fast, "ess_reverse", "D", ":", "fast models, reverse"),
        (coarse, "ess_reverse", "X", "-.", "coarse to fine, reverse"),
    ]
    with styled():
        figure, ax = new_figure(3.6)
        for (family, key, marker, dashes, label), colour in zip(lines, COLOURS, strict=False):
            values = np.array([r[key] for r in family])
            x = [r["shape"][0] for r in family]
            ax.errorbar(x, values[:, 0], values[:, 1], marker=marker, ls=dashes, color=colour, label=label)
        for (extent, ess, label), marker in zip(PUBLISHED, "^v", strict=True):
            ax.plot(extent, ess, marker, ms=6, color="black", label=f"{label}: {ess}")
        volumes = np.array([32, 64, 128])
        law = 0.904 ** (volumes / 32) ** 2
        ax.plot(volumes, law, ":", color="black", lw=1, label="0.904 at 32, equal per site")
        ax.set(xlabel="L, along ξ = L/4", ylabel="ESS of global proposals", ylim=(0, 1.02), xscale="log")
        ticks = sorted({*L.tolist(), *volumes.tolist()})
        ax.set_xticks(ticks, [str(tick) for tick in ticks])
        ax.minorticks_off()
        legend(figure, ax, outside=True)
        figure.savefig(HERE / "ess-against-L.png", dpi=200, metadata={"Software": None})


if __name__ == "__main__":
    main()
