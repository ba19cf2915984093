"""Figure `ess-along-lines.png` from `docs/lines.jsonl`: what `latticediff line` wrote, and dedicated networks.

python docs/figures/ess_along_lines.py
"""

import json
from pathlib import Path

from latticediff.report.style import COLOURS, legend, new_figure, styled

HERE = Path(__file__).parent
LABELS = {"lam": r"$\lambda$", "kappa": r"$\kappa$"}


def main():
    rows = [json.loads(line) for line in (HERE.parent / "lines.jsonl").read_text().splitlines()]
    with styled():
        figure, axes = new_figure(3.0, ncols=len(rows), sharey=True, squeeze=False)
        for ax, row in zip(axes[0], rows, strict=True):
            for value in row["trained"]:
                ax.axvline(value, color="#777777", lw=0.8, ls=":", zorder=0)
            for seen, marker, label in ((True, "o", "trained here"), (False, "s", "never trained here")):
                points = [(value, *ess) for value, ess in row["points"] if (value in row["trained"]) is seen]
                x, y, error = zip(*points, strict=True)
                look = {"color": COLOURS[not seen], "ls": "", **({} if seen else {"markerfacecolor": "white"})}
                ax.errorbar(x, y, error, marker=marker, label=f"one network, {label}", **look)
            if row["dedicated"]:
                x, y, error = zip(*((value, *ess) for value, ess in row["dedicated"]), strict=True)
                ax.errorbar(x, y, error, marker="^", ls="", color="black", label="dedicated network, as many steps")
            ax.set(xlabel=LABELS[row["coupling"]], ylim=(0, 1.02), title=row["model"])
        axes[0, 0].set_ylabel("ESS, reverse")
        legend(figure, axes[0, 0], outside=True)
        figure.savefig(HERE / "ess-along-lines.png", dpi=200, metadata={"Software": None})


if __name__ == "__main__":
    main()
