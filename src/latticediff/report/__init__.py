"""Reports: ``report.json``, figures with the data behind them, and one self-contained page.

`model` says what a report is made of, `numbers` and `tables` make the numbers, `verdict` the sentences, `figures` the
pictures, `sheet` what a page is made of, `html` the page; `build` writes a folder. Needs matplotlib, never torch.
"""

from .build import write_report
from .model import Autocorrelation, ChainResult, Correlator, Film, Histogram, Propagator, RunResult
from .tables import report_dict

__all__ = [
    "Autocorrelation",
    "ChainResult",
    "Correlator",
    "Film",
    "Histogram",
    "Propagator",
    "RunResult",
    "report_dict",
    "write_report",
]
