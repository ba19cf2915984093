"""Figure `ess-against-L.png` from the rows of `python benchmarks/ess_table.py --json > docs/ess-table.jsonl`.

python docs/figures/ess_against_L.py
"""

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

HERE = Path(__file__).parent
#: (L, ESS, label): exact, likelihood-weighted sampling along xi = L/4, convention A, m2 = -4
PUBLISHED = [(32, 0.66, "continuous flow, 2021"), (32, 0.904, "continuous flow, 2022")]


def main():
    rows = [json.loads(line) for line in (HERE.parent / "ess-table.jsonl").read_text().splitlines()]
    rows = sorted((r for r in rows if r["model"].startswith("phi4-A-L")), key=lambda r: r["shape"][0])
    fast, odd = ([r for r in rows if r["model"].endswith(end)] for end in ("-fast", "-odd"))
    rows = [r for r in rows if r not in fast and r not in odd]
    L = np.array([r["shape"][0] for r in rows])
    fig, ax = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    for key, marker, label in (("ess_reverse", "o-", "latticediff, reverse"), ("ess_forward", "s--", "forward")):
        values = np.array([r[key] for r in rows])
        ax.errorbar(L, values[:, 0], values[:, 1], fmt=marker, capsize=3, label=label)
    for family, marker, label in ((odd, "P-", "odd sites, reverse"), (fast, "D:", "fast models, reverse")):
        values = np.array([r["ess_reverse"] for r in family])
        ax.errorbar([r["shape"][0] for r in family], values[:, 0], values[:, 1], fmt=marker, capsize=3, label=label)
    for (extent, ess, label), marker in zip(PUBLISHED, "^v", strict=True):
        ax.plot(extent, ess, marker, color="black", label=f"{label}: {ess}")
    volumes = np.array([32, 64, 128])
    ax.plot(
        volumes, 0.904 ** (volumes / 32) ** 2, ":", color="black", lw=1, label="0.904 at 32, equal quality per site"
    )
    ax.set(
        xlabel="L", ylabel="ESS of global proposals", ylim=(0, 1.02), xscale="log", title=r"$\phi^4$ along $\xi = L/4$"
    )
    ticks = sorted({*L.tolist(), *volumes.tolist()})
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.minorticks_off()
    ax.grid(alpha=0.3)
    ax.legend(frameon=False, loc="lower left")
    fig.savefig(HERE / "ess-against-L.png", dpi=150)


if __name__ == "__main__":
    main()
