"""What chains along a line of couplings show: a table for people, ``line.json``, and one figure."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..provenance import version
from .build import write_figures, write_file
from .figures.line import draw_line
from .model import Pair
from .numbers import value_error

__all__ = ["Line", "Point", "write_line"]


@dataclass(frozen=True)
class Point:
    """One exact ensemble of a line; pairs are ``(value, error)``."""

    value: float  #: of the coupling
    file: str
    fingerprint: str
    trained: bool  #: whether the model has seen this coupling
    outside: bool  #: whether coupling or lattice lie outside of its range
    n: int  #: configurations, which is proposals, of all chains together
    ess: Pair | None  #: reverse, of the proposals; None: correlated moves
    acceptance: float
    tau_abs_m: Pair  #: tau_int of abs(m), in updates
    observables: dict[str, Pair]  #: name -> pair, as `latticediff.analysis.observables_table`


@dataclass(frozen=True)
class Line:
    """Ensembles that one model drew along a line of couplings."""

    model: str
    fingerprint: str
    coupling: str
    theory: dict[str, Any]  #: action and shape; the coupling that varies has some value
    route: str
    points: tuple[Point, ...]
    trained: tuple[float, ...]  #: values of the coupling that the model was trained at
    versions: dict[str, str] = field(default_factory=lambda: {"latticediff": version()})

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    def to_text(self) -> str:
        """A table for people."""
        couplings = self.theory["action"]["couplings"]
        fixed = ", ".join(f"{key} = {value:g}" for key, value in couplings.items() if key != self.coupling)
        shape = "x".join(map(str, self.theory["shape"]))
        head = f"{self.model}, {self.route} route, along {self.coupling} with {fixed} on {shape}"
        titles = (self.coupling, "n", "ESS", "acceptance", "tau_int(|m|)", "|m|", "chi", "")
        rows = [titles, *(self._row(point) for point in self.points)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]
        return "\n".join([head, *(line.rstrip() for line in lines)])

    def _row(self, point: Point) -> tuple[str, ...]:
        pairs = (point.observables["abs_m"], point.observables["chi"])
        return (
            f"{point.value:.12g}",
            str(point.n),
            value_error(*point.ess) if point.ess else "-",
            f"{point.acceptance:.3f}",
            value_error(*point.tau_abs_m),
            *(value_error(*pair) for pair in pairs),
            "trained here" if point.trained else "outside" if point.outside else "",
        )


def write_line(line: Line, out: Path) -> dict[str, Path]:
    """Write ``line.json`` and ``figures/line.png, .pdf, .csv``, replacing earlier ones.

    Parameters
    ----------
    line : Line
    out : Path
        The folder; made if missing.

    Returns
    -------
    dict of str to Path
        ``json`` and ``figures`` (the folder).

    Raises
    ------
    FileError
        If the folder cannot be written.
    """
    folder = write_figures([draw_line(line)], out)
    text = json.dumps(line.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return {"figures": folder, "json": write_file(out / "line.json", text)}
