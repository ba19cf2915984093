"""Reports: ``report.json``, figures with the data behind them, and one self-contained page.

`model` says what a report is made of, `tables` makes the numbers, `figures` the pictures, `html` the page, `build`
writes a folder, `compare` does it for any set of chain files. Needs matplotlib, never torch.
"""

from .model import Autocorrelation, ChainResult, Correlator, Propagator, RunResult

__all__ = ["Autocorrelation", "ChainResult", "Correlator", "Propagator", "RunResult"]
