"""The figure of a line of couplings: order parameter, susceptibility and ESS against the coupling."""

from typing import TYPE_CHECKING, Any

from ..style import COLOURS, FigureRecord, new_figure, styled
from .physics import SYMBOLS

if TYPE_CHECKING:
    from ..line import Line

__all__ = ["draw_line"]


def draw_line(line: "Line") -> FigureRecord:
    """Three panels over the coupling that varies; dotted lines are the couplings that the model was trained at.

    Parameters
    ----------
    line : latticediff.report.line.Line

    Returns
    -------
    FigureRecord
    """
    with styled():
        return _draw(line)


def _draw(line: "Line") -> FigureRecord:
    figure, axes = new_figure(5.2, nrows=3, sharex=True)
    x = [point.value for point in line.points]
    low, high = min(x), max(x)
    panels: Any = (
        (SYMBOLS["abs_m"], [point.observables["abs_m"] for point in line.points]),
        (SYMBOLS["chi"], [point.observables["chi"] for point in line.points]),
        ("ESS", [point.ess or (None, None) for point in line.points]),
    )
    for ax, (label, pairs) in zip(axes, panels, strict=True):
        for value in line.trained:
            if low <= value <= high:
                ax.axvline(value, color="#777777", lw=0.8, ls=":", zorder=0)
        known = [(at, *pair) for at, pair in zip(x, pairs, strict=True) if pair[0] is not None]
        for at, value, error in known:
            seen = at in line.trained
            # filled where the model was trained, open where it was not
            face = {} if seen else {"markerfacecolor": "white"}
            ax.errorbar(at, value, error, color=COLOURS[0 if seen else 1], marker="o" if seen else "s", ls="", **face)
        ax.set_ylabel(label)
    axes[2].set(xlabel=line.coupling, ylim=(0, 1.03))
    rows = [
        (point.value, int(point.trained), *(point.ess or (None, None)), point.acceptance, *point.tau_abs_m)
        + tuple(point.observables["abs_m"])
        + tuple(point.observables["chi"])
        for point in line.points
    ]
    return FigureRecord(
        "line",
        f"Along {line.coupling}",
        "Mean modulus of the magnetisation, susceptibility V<m²> and effective sample size of the proposals. Filled"
        " points and dotted lines: couplings that the model was trained at; open points: interpolated.",
        f"Three panels over {line.coupling} from {low:g} to {high:g}: modulus of m, susceptibility and ESS.",
        figure,
        (
            line.coupling,
            "trained",
            "ess",
            "ess_error",
            "acceptance",
            "tau_int_abs_m",
            "tau_int_abs_m_error",
            "abs_m",
            "abs_m_error",
            "chi",
            "chi_error",
        ),
        rows,
    )
