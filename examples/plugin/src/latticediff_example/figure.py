"""A figure of the report page."""

from latticediff.report.style import FigureRecord, new_figure


def acceptances(run):
    """Acceptance of every chain as a bar; None where no chain has one."""
    rows = [(chain.label, chain.acceptance) for chain in run.chains if chain.acceptance is not None]
    if not rows:
        return None
    figure, axes = new_figure(2.4)
    axes.bar(*zip(*rows, strict=True))
    axes.set(ylabel="acceptance", ylim=(0, 1))
    caption = "Accepted share of the proposals of each chain."
    alt = "; ".join(f"{label} {acceptance:.2f}" for label, acceptance in rows)
    return FigureRecord("acceptances", "Acceptance", caption, alt, figure, ("chain", "acceptance"), rows)
