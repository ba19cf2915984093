"""The page of a run: samplers, observables, cost, checks."""

import html
import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from .brief import brief
from .caveats import CHECK_ALARM
from .model import ChainResult, Pair, RunResult
from .numbers import OBSERVABLES, TAU_NAMES, break_even, cost_ratio, count, differences, seconds, value_error
from .sheet import Cell, figure, sheet, table, text, theory
from .verdict import SIGMA_ALARM, describe_action, verdict

if TYPE_CHECKING:
    from .style import FigureRecord

__all__ = ["page"]


def _samplers(run: RunResult) -> str:
    chains = run.chains

    def pairs(values: Iterable[Pair | None]) -> list[str]:
        return [value_error(*pair) if pair is not None else "–" for pair in values]

    rows: list[tuple[Cell, ...]] = [
        ("chains × updates", *(f"{c.n_chains} × {c.n_updates}" for c in chains)),
        *([("recorded every", *(str(c.thin) for c in chains))] if any(c.thin > 1 for c in chains) else []),
        ("acceptance", *("–" if c.acceptance is None else f"{100 * c.acceptance:.1f} %" for c in chains)),
        ("ESS, reverse", *pairs(c.ess_reverse for c in chains)),
        ("ESS, forward", *pairs(c.ess_forward for c in chains)),
    ]
    if any(chain.network for chain in chains):
        rows.insert(0, ("network", *((c.network or "–", "wrap") for c in chains)))
    for name, symbol in TAU_NAMES.items():
        if any(name in chain.tau_int for chain in chains):
            rows.append((f"τ_int of {symbol}", *pairs(c.tau_int.get(name) for c in chains)))
    return table(
        "τ_int = 1/2 + Σ ρ(t) in updates, 0.5 is independent. ESS, effective sample size: reverse over proposals, "
        "forward over held-out reference data; 1 is perfect.",
        ("", *(chain.label for chain in chains)),
        rows,
    )


def _observables(run: RunResult) -> str:
    rows, legend = [], []
    for name, (symbol, definition) in OBSERVABLES.items():
        row: list[Cell] = [symbol]
        for chain in run.chains:
            value = chain.observables.get(name)
            d = None if chain is run.reference else differences(chain, run.reference).get(name)
            said = "–" if value is None else value_error(*value)
            said += "" if d is None else f", {d:+.1f}σ".replace("-", "−")
            row.append((said, "bad") if d is not None and abs(d) > SIGMA_ALARM else said)
        if any(chain.observables.get(name) for chain in run.chains):
            legend.append(f"{symbol}: {definition}")
            rows.append(tuple(row))
    second = f", then the difference from {run.reference.label} in combined errors" if len(run.chains) > 1 else ""
    return table(
        f"{'; '.join(legend)}. Lattice units, field normalisation of the convention named above; value(error of the "
        f"last digits), one standard error, autocorrelation included{second}.",
        ("", *(chain.label for chain in run.chains)),
        rows,
    )


def _weighted(run: RunResult) -> str:
    """Averages by importance weights beside the chain's own, for chains of independent proposals."""
    chains = [chain for chain in run.chains if chain.weighted]
    if not chains:
        return ""

    def cells(chain: ChainResult, name: str) -> tuple[Cell, Cell]:
        sigma, pair = chain.weighted_sigma.get(name), chain.weighted.get(name)
        said = "–" if sigma is None else f"{sigma:+.1f}σ".replace("-", "−")
        bad = sigma is not None and abs(sigma) > SIGMA_ALARM
        return ("–" if pair is None else value_error(*pair), (said, "bad") if bad else said)

    known = [name for name in OBSERVABLES if any(name in chain.weighted for chain in chains)]
    rows = [(OBSERVABLES[name][0], *(cell for chain in chains for cell in cells(chain, name))) for name in known]
    tails = "; ".join(f"{c.label} {c.pareto_k:.2f}" for c in chains if c.pareto_k is not None)
    return table(
        "The same averages by importance weights, ⟨O⟩ = Σ w O / Σ w over all independent proposals, accepted or not. "
        "The difference, chain less weights, is in units of its own error: both come from the same draws, and their "
        "correlation is in it."
        + (f" Pareto k of the weights (above 0.7 do not trust their averages): {tails}." if tails else ""),
        ("", *(title for chain in chains for title in (f"{chain.label}, weights", "chain − weights"))),
        rows,
    )


def _costs(run: RunResult) -> str:
    def row(title: str, cell: Callable[[ChainResult], Cell]) -> tuple[Cell, ...]:
        return (title, *(cell(chain) for chain in run.chains))

    def price(chain: ChainResult) -> str:
        found = chain.per_independent_sample(chain.seconds_per_update)
        return seconds(*found) if found else "–"

    def evaluations(chain: ChainResult) -> str:
        found = chain.per_independent_sample(chain.evaluations_per_update)
        return value_error(*found) if found else "–"

    def ratio(chain: ChainResult) -> str:
        found = None if chain is run.reference else cost_ratio(chain, run.reference)
        return value_error(*found) if found else "–"

    def repaid(chain: ChainResult) -> str:
        if chain is run.reference or cost_ratio(chain, run.reference) is None:
            return "–"
        even = break_even(chain, run.reference)
        return "never" if even is None else f"{count(even)} samples" if even else "from the first sample"

    def before(chain: ChainResult, item: str) -> str:
        return seconds(chain.setup_seconds.get(item))

    items = list(dict.fromkeys(item for chain in run.chains for item in chain.setup_seconds))
    rows = [
        row("per update of one chain", lambda c: seconds(c.seconds_per_update)),
        row("slowest observable", lambda c: TAU_NAMES.get(c.slowest or "", c.slowest or "–")),
        row("per independent sample", price),
        row("evaluations for it", evaluations),
        row("of what", lambda c: ("–" if c.evaluations_per_update is None else c.evaluation_kind, "wrap")),
        row("processor time per independent |m|", lambda c: seconds(*c.processor_price) if c.processor_price else "–"),
        *(row(f"before the first: {item}", partial(before, item=item)) for item in items),
    ]
    if len(run.chains) > 1:
        rows.append(row(f"times cheaper than {run.reference.label}", ratio))
        rows.append(row("break-even, all included", repaid))
    where = f" on {run.device}" if run.device else ""
    return table(
        f"Wall time{where}. An independent sample is 2τ_int updates, with τ_int of the slowest observable. Evaluations "
        "of different kinds are not of equal price; seconds are what counts."
        + (
            " Processor time is of all threads together; all samplers were measured in turn, in rounds, so that what"
            " else the machine did met all alike."
            if any(chain.processor_price for chain in run.chains)
            else ""
        ),
        ("", *(chain.label for chain in run.chains)),
        rows,
    )


def _checks(run: RunResult) -> str:
    names = {
        "schwinger_dyson": "⟨Σ φ ∂S/∂φ⟩ / V (Schwinger-Dyson), 1 exactly",
        "exp_minus_delta_h": "⟨exp(−ΔH)⟩ of HMC, 1 exactly",
        "log_weight_step_doubling_spread": "spread of the change of log_weight when the integrator's steps are doubled",
        "log_weight_step_doubling_draws_spread": "the same on draws",
        "log_weight_step_doubling_median": "change of log_weight when the integrator's steps are doubled, median",
        "log_weight_step_doubling_max": "change of log_weight when the integrator's steps are doubled, largest",
        "log_weight_step_doubling_bias_bound": "bound on its bias of any average, in standard deviations of one sample",
        "log_weight_step_doubling_draws_bias_bound": "the same on draws",
    }
    rows = []
    for name in [*names, *(n for n in run.checks if n not in names)]:
        value = run.checks.get(name)
        if isinstance(value, tuple | list):
            off = abs(value[0] - 1) / value[1] if value[1] else None
            said = "" if off is None else f"{off:.1f}σ from 1"
            bad = off is not None and off > CHECK_ALARM and name in names
            rows.append((names.get(name, name), value_error(*value), (said, "bad") if bad else said))
        elif value is not None:
            rows.append((names.get(name, name), f"{value:.2g}" if isinstance(value, float) else value, ""))
    return (
        table("Identities that hold whatever the couplings, and the integrator's error.", ("", "value", ""), rows)
        if rows
        else ""
    )


def _about(run: RunResult) -> str:
    rows: list[tuple[Cell, ...]] = [
        ("lattice", "×".join(map(str, run.shape)) + ", periodic, lattice units"),
        ("seed", "–" if run.seed is None else str(run.seed)),
        ("made", run.created),
        ("device", run.device or "–"),
        ("versions", (", ".join(f"{k} {v}" for k, v in run.versions.items()) or "–", "wrap")),
    ]
    rows += [(f"seconds: {name}", f"{value:.1f}") for name, value in run.seconds.items()]
    body = table("Where this page comes from; report.json holds every number, figures/*.csv the data.", ("", ""), rows)
    for chain in run.chains:
        if chain.algorithm:
            told = html.escape(json.dumps(chain.algorithm, indent=2, ensure_ascii=False, default=str))
            body += f"<details><summary>{text(chain.label)}: algorithm</summary><pre>{told}</pre></details>"
    if run.card:
        body += f"<details><summary>Effective run-card</summary><pre>{html.escape(run.card)}</pre></details>"
    return body


def page(run: RunResult, records: "Sequence[FigureRecord]") -> str:
    """The page as a string.

    Parameters
    ----------
    run : RunResult
    records : sequence of FigureRecord
        From `figures.draw`; embedded as PNG data URIs.
    """
    headline, sentences = verdict(run)
    figures = {record.name: figure(record) for record in records}

    def some(*names: str) -> str:
        return "\n".join(figures.pop(name) for name in names if name in figures)

    sections = [
        ("Fields", some("configurations", "film")),
        ("Samplers", _samplers(run) + some("history", "autocorrelation", "log_weight")),
        (
            "Observables",
            _observables(run)
            + _weighted(run)
            + some("observables", "distribution", "site_values", "propagator", "correlator", "effective_mass"),
        ),
        ("Cost", _costs(run) + some("cost", "amortised")),
        ("Checks", _checks(run)),
        ("Training", some("training")),
        ("Action and conventions", theory(run.action)),
        ("About this run", some(*list(figures)) + _about(run)),
    ]
    return sheet(
        run.title,
        f"{describe_action(run.action)}; lattice {'×'.join(map(str, run.shape))}"
        + (f"; seed {run.seed}" if run.seed is not None else "")
        + f"; {run.created[:10]}"
        + (f"; {run.device}" if run.device else "")
        + (f"; latticediff {run.versions['latticediff']}" if "latticediff" in run.versions else ""),
        [headline, *brief(run)],
        sections,
        sentences,
    )
