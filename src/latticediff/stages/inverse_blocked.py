"""What inverse blocking made, as a table of sweeps for people and for programs."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..analysis import compare
from ..untrusted import printable

if TYPE_CHECKING:
    from ..action import Action
    from ..analysis import Estimate
    from ..types import Description, Shape

__all__ = ["OBSERVED", "InverseBlocked"]

OBSERVED = ("abs_m", "m2", "phi2", "action_per_site", "binder", "xi_2nd")


@dataclass(frozen=True)
class InverseBlocked:
    """Observables of the fine fields, sweep by sweep; the first row is that of the draws."""

    source: str
    action: Action  #: of the fine fields
    shape: Shape
    n: int  #: coarse fields
    copies: int  #: draws of each
    kernel: str
    blocking: Description
    softness: float
    origin: str  #: of the propagator
    ess: float | None  #: share of the draws of one coarse field that count, by exp(-S)/q given it
    ess_whole: Estimate | None  #: of all draws, for the fine theory; None where the coarse file has no action
    rows: list[dict[str, Estimate]]
    held: int  #: rows after the first at fixed coarse fields
    reference: dict[str, Estimate] | None

    def to_dict(self) -> Description:
        """JSON-able; null for what is not defined."""
        return {
            "source": self.source,
            "action": self.action.describe(),
            "shape": list(self.shape),
            "n": self.n,
            "copies": self.copies,
            "kernel": self.kernel,
            "blocking": self.blocking,
            "softness": self.softness,
            "propagator": self.origin,
            "ess_given_coarse": self.ess,
            "ess_fine_theory": None if self.ess_whole is None else self.ess_whole.pair(),
            "held": self.held,
            "sweeps": [{name: found.pair() for name, found in row.items()} for row in self.rows],
            "reference": None if self.reference is None else {k: e.pair() for k, e in self.reference.items()},
        }

    def to_json(self) -> str:
        """`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    def to_csv(self) -> str:
        """One line for each sweep: the observables, each with its error."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["sweep", "held", *(column for name in OBSERVED for column in (name, f"{name}_error"))])
        for sweep, row in enumerate(self.rows):
            writer.writerow([sweep, int(0 < sweep <= self.held), *(x for name in OBSERVED for x in row[name].pair())])
        return text.getvalue()

    def to_text(self) -> str:
        """A table for people; of many sweeps, those whose numbers double."""
        lattice = "x".join(map(str, self.shape))
        drawn = f"{self.n} coarse fields" + (f", {self.copies} draws each" if self.copies > 1 else "")
        lines = [
            f"{printable(self.source)}: {drawn}, to {self.action!r} on {lattice}; kernel {printable(self.kernel)},"
            f" factor {self.blocking['factor']:g}, propagator: {printable(self.origin)}"
        ]
        if self.ess is not None:
            lines.append(f"ESS of the draws given the coarse field {self.ess:.3g}, of {self.copies} each")
        if self.ess_whole is not None:
            lines.append(f"ESS of the draws for the fine theory {self.ess_whole}, by the action of the coarse fields")
        last = len(self.rows) - 1
        cells = [["sweep", *OBSERVED]]
        for sweep in (i for i in range(last + 1) if i in (0, self.held, last) or _doubles(i, self.held)):
            held = " held" if 0 < sweep <= self.held else ""
            cells.append([f"{sweep}{held}", *(self._cell(self.rows[sweep], name) for name in OBSERVED)])
        if self.reference is not None:
            cells.append(["reference", *(str(self.reference[name]) for name in OBSERVED)])
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines += ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)) for row in cells]
        if self.reference is not None:
            lines.append("in brackets [ ]: distance from the reference in joint standard errors")
        return "\n".join(line.rstrip() for line in lines)

    def _cell(self, row: dict[str, Estimate], name: str) -> str:
        if self.reference is None:
            return str(row[name])
        return f"{row[name]} [{compare(row[name], self.reference[name]).sigma:+.1f}]"


def _doubles(sweep: int, held: int) -> bool:
    """Whether a sweep, counted from where its kernel began, is a power of two."""
    count = sweep - held if sweep > held else sweep
    return count & (count - 1) == 0
