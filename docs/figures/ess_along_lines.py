"""Figure `ess-along-lines.png` from `docs/lines.jsonl`: what `latticediff line` wrote, and dedicated networks.

python docs/figures/ess_along_lines.py
"""

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
LABELS = {"lam": r"$\lambda$", "kappa": r"$\kappa$"}


def main():
    rows = [json.loads(line) for line in (HERE.parent / "lines.jsonl").read_text().splitlines()]
    fig, axes = plt.subplots(
        1, len(rows), figsize=(4.4 * len(rows), 3.6), layout="constrained", sharey=True, squeeze=False
    )
    for ax, row in zip(axes[0], rows, strict=True):
        for value in row["trained"]:
            ax.axvline(value, color="#777777", lw=0.8, ls=":", zorder=0)
        for seen, style, label in ((True, "o", "trained here"), (False, "s", "never trained here")):
            points = [(value, *ess) for value, ess in row["points"] if (value in row["trained"]) is seen]
            x, y, error = zip(*points, strict=True)
            face = {} if seen else {"markerfacecolor": "white"}
            ax.errorbar(x, y, error, fmt=style, capsize=3, label=f"one network, {label}", **face)
        if row["dedicated"]:
            x, y, error = zip(*((value, *ess) for value, ess in row["dedicated"]), strict=True)
            ax.errorbar(x, y, error, fmt="^", color="black", capsize=3, label="dedicated network, as many steps")
        ax.set(xlabel=LABELS[row["coupling"]], ylim=(0, 1.02), title=row["model"])
        ax.grid(alpha=0.3)
    axes[0, 0].set_ylabel("ESS of global proposals, reverse")
    axes[0, 0].legend(frameon=False, loc="lower right")
    fig.savefig(HERE / "ess-along-lines.png", dpi=150)


if __name__ == "__main__":
    main()
