"""What an observable is, to be measured, averaged, compared and shown by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import UserError

__all__ = ["Observable", "Where"]


class Where(NamedTuple):
    """The lattice that means are taken on."""

    volume: int
    extent: int  #: the longest
    ndim: int
    components: int = 1  #: of the field at a site


@dataclass(frozen=True)
class Observable:
    r"""How one observable follows from fields, from other observables, or from their means.

    ============  ===========  =======================================================================
    `needs`       `derived`    `function`
    ============  ===========  =======================================================================
    ()            False        ``f(phis (n, *lattice), action) -> (n,)``: one number per configuration
    (a, b, ...)   False        ``f(a (n,), b (n,), ...) -> (n,)``: of others of the same configuration
    (a, b, ...)   True         ``f(where, mean_a, mean_b, ...) -> float``: of ensemble means
    ============  ===========  =======================================================================

    Errors of derived ones follow by the Gamma method from the series of all they need, correlations included.
    """

    function: Callable[..., Any]
    needs: tuple[str, ...] = ()  #: names of observables that are not derived
    derived: bool = False
    symbol: str = ""  #: of one configuration, or of the derived number; the name if empty
    tex: str = ""  #: the same for mathtext
    meaning: str = ""  #: in words, for the legend of a table
    reported: bool = False  #: stands in the tables of reports
    timed: bool = False  #: its tau_int is listed
    thermal: bool = False  #: gates on thermalisation and on the agreement of chains look at it

    def __post_init__(self) -> None:
        if self.derived and not self.needs:
            raise UserError("an observable that is derived from means wants to know of which: give needs")

    def __call__(self, *arguments: Any) -> Any:
        """The function."""
        return self.function(*arguments)

    def average_symbol(self, name: str, tex: bool = False) -> str:
        """Symbol of the ensemble value: ``<symbol>`` in angle brackets, unless it is a function of means."""
        said = (self.tex if tex else self.symbol) or (rf"\mathrm{{{name}}}" if tex else name)
        if tex:
            return f"${said}$" if self.derived else rf"$\langle{said}\rangle$"
        return said if self.derived else f"⟨{said}⟩"
