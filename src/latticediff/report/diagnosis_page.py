"""The page of a diagnosis: verdict, weights, where their spread comes from, integration error."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ..types import FloatArray
from .numbers import OBSERVABLES, TAU_NAMES, count, scheme_text, value_error
from .sheet import figure, sheet, table, theory
from .verdict import describe_action

if TYPE_CHECKING:
    from ..analysis import Estimate, IntegrationBias
    from .diagnosis import Diagnosis
    from .style import FigureRecord

__all__ = ["diagnosis_page"]

SYMBOLS = {**{name: symbol for name, (symbol, _) in OBSERVABLES.items()}, **TAU_NAMES}


def _verdict(d: Diagnosis) -> list[str]:
    w = d.weights
    assert w.ess_forward is not None  # a diagnosis weighs exact configurations
    headline = (
        f"ESS {value_error(*_pair(w.ess_reverse))} over draws, {value_error(*_pair(w.ess_forward))} over exact"
        f" configurations; acceptance {100 * w.acceptance:.0f} %."
    )
    sentences = [
        f"log_weight has the standard deviation {w.log_weight_std:.3g}, a variance of"
        f" {w.log_weight_std**2 / d.volume:.2g} per site. A chain of {d.log_weight_reverse.size} proposals stayed at"
        f" most {d.longest_rejection} of them in one place; at the heaviest exact configuration seen it would stay"
        f" {d.expected_stay:.3g} on average."
    ]
    level = d.score_error
    if level is not None:
        worst = int(np.argmax(level.error * (level.error > 2 * level.uncertainty)))
        if level.error[worst] > 2 * level.uncertainty[worst]:
            half = 0.5 * w.log_weight_std**2
            # what fine-tuning through the flow leads to
            better = level.kl - 3 * level.kl_error > 2 * half and d.proposal["name"] == "ode"
            sentences.append(
                f"The score is worst near σ = {level.sigma[worst]:.2g}. Its error over all noise levels is worth"
                f" {value_error(level.kl, level.kl_error)} nats; half the variance of log_weight is"
                f" {half:.2g}."
                + (" The flow's density is better than its score, for which the reverse SDE would pay." * better)
            )
        else:
            sentences.append("No noise level has a score error beyond the noise of its measurement.")
    shells, operators = d.shares["together"][:2]
    sentences.append(
        f"Powers of momentum shells explain {_percent(shells)} of the variance of log_weight, local operators"
        f" {_percent(operators)}; the rest is many small local errors."
    )
    bias, bound = d.integration, d.bias_bound
    if bias is not None and bound is not None:
        sentences.append(
            f"Integration error of log_q: {bias.std:.1e} from configuration to configuration, {bias.mean:+.1e} in the"
            f" mean, which cancels. No average is off by more than {bound:.1e} standard deviations, which is"
            f" below the statistical error up to {_samples(bound)} independent samples."
        )
    return [headline, *sentences, *d.alarms()]


def _pair(estimate: Estimate) -> tuple[float, float]:
    return estimate.value, estimate.error


def _samples(bound: float) -> str:
    return count(bound**-2) if bound > 0 else "any number of"


def _percent(row: tuple[str, float, float]) -> str:
    _, value, error = row
    return f"{100 * max(value, 0.0):.0f}({max(1, round(100 * error))}) %"


def _weights(d: Diagnosis) -> str:
    w, found = d.weights, d.free_energy
    assert w.ess_forward is not None  # a diagnosis weighs exact configurations
    columns = ("", "draws (reverse)", "exact configurations (forward)")
    rows = [
        ("number", str(d.log_weight_reverse.size), str(d.log_weight_forward.size)),
        ("ESS", value_error(*_pair(w.ess_reverse)), value_error(*_pair(w.ess_forward))),
        ("Pareto k", _number(w.pareto_k), _number(w.forward_pareto_k)),
        ("largest log_weight above the mean", _above_mean(d.log_weight_reverse), _above_mean(d.log_weight_forward)),
        ("log Z", value_error(*_pair(found.reverse)), value_error(*_pair(found.forward))),
        (
            "bound on log Z",
            value_error(*_pair(found.lower)) + " from below",
            value_error(*_pair(found.upper)) + " from above",
        ),
    ]
    if d.sign:
        draws, exact = (f"{share:.3f}, {off:+.1f}σ".replace("-", "−") for share, off in d.sign.values())
        rows.append(("share of m > 0", draws, exact))
    both = (
        ("log Z, both (acceptance ratio)", value_error(*_pair(found.bridge))),
        ("acceptance, expected from the weights", f"{100 * w.acceptance:.1f} %"),
        ("acceptance, proposed one after the other", f"{100 * d.acceptance:.1f} %"),
        ("longest run of rejections", str(d.longest_rejection)),
        ("mean stay at the heaviest exact configuration", f"{d.expected_stay:.3g} proposals"),
        ("draws of weight zero", str(w.n_zero)),
    )
    return table(
        "ESS: reverse (Σw)²/(NΣw²), forward 1/(⟨w⟩⟨1/w⟩). Pareto k above 0.7 means weights whose averages cannot be "
        "trusted; flat tails have negative k.",
        columns,
        rows,
    ) + table("Both together.", ("", ""), both)


def _number(k: float | None) -> str:
    return "–" if k is None or not math.isfinite(k) else f"{k:.2f}".replace("-", "−")


def _above_mean(log_weight: FloatArray) -> str:
    finite = log_weight[np.isfinite(log_weight)]
    return f"{finite.max() - finite.mean():.2f}"


def _integration(d: Diagnosis) -> str:
    rows, columns = [], [b for b in (d.integration, d.integration_draws) if b is not None]

    def row(label: str, text: Callable[[IntegrationBias], str]) -> None:
        rows.append((label, *map(text, columns)))

    def bias_of(b: IntegrationBias, name: str) -> str:
        return _maybe(b.observables, name)

    def correlation_with(b: IntegrationBias, name: str) -> str:
        return _maybe(b.correlations, name)

    if columns:
        row("ε = change of log_q under doubled steps: standard deviation", lambda b: f"{b.std:.1e}")
        row("mean of ε: size of the shift of log Z", lambda b: f"{abs(b.mean):.1e}")
        row("size of ε: median, largest", lambda b: f"{b.median:.1e}, {b.max:.1e}")
        row("bound on the bias of any average, in its standard deviations", lambda b: f"{b.bias_bound:.1e}")
        row("bound on the error of any probability", lambda b: f"{b.total_variation:.1e}")
        row("bound on the change of the acceptance", lambda b: f"{b.acceptance_bound:.1e}")
        row("independent samples at which bound and statistical error meet", lambda b: _samples(b.bias_bound))
        for name in columns[0].observables:
            symbol = SYMBOLS.get(name, name)
            row(f"measured bias of {symbol}, in standard deviations", partial(bias_of, name=name))
            row(f"correlation of ε with {symbol}", partial(correlation_with, name=name))
    blank = [""] * (len(columns) - 1)
    for name, label in (("noise", "draw inverted: change of the noise, median, largest"),
                        ("log_q", "draw inverted: change of log_q, median, largest")):  # fmt: skip
        if name in d.inversion:
            rows.append((label, *blank, "{:.1e}, {:.1e}".format(*d.inversion[name])))
    if "lost" in d.inversion:
        rows.append(
            (
                "draws that no noise was found for: take more steps",
                *blank,
                "{:.0f} of {:.0f}".format(*d.inversion["lost"]),
            )
        )
    return table(
        "A chain that weighs with q exp(ε) samples exp(−S − ε): averages move by cov(O, e⁻ᵋ), at most σ_O times the "
        "spread of e⁻ᵋ. A constant ε does nothing: a field has one density, drawn or given.",
        ("", "configurations", "draws") if len(columns) == 2 else ("", ""),
        rows,
    )


def _maybe(pairs: Mapping[str, tuple[float, float]], name: str) -> str:
    return value_error(*pairs[name]) if name in pairs else "–"


def diagnosis_page(d: Diagnosis, records: Sequence[FigureRecord]) -> str:
    """The page of a diagnosis.

    Parameters
    ----------
    d : Diagnosis
    records : sequence of FigureRecord
        Of `latticediff.report.figures.diagnosis.draw_diagnosis`.

    Returns
    -------
    str
        HTML, complete in itself.
    """
    figures = {record.name: figure(record) for record in records}

    def some(*names: str) -> str:
        return "\n".join(figures[name] for name in names if name in figures)

    about = table(
        "Where this page comes from; diagnosis.json holds every number, figures/*.csv the data.",
        ("", ""),
        [
            ("proposal", (scheme_text(d.proposal), "wrap")),
            ("exact configurations", (d.reference, "wrap")),
            ("seed, seconds", f"{d.seed}, {d.seconds:.0f} s"),
            ("made", d.created),
            ("device", d.device or "–"),
            ("versions", (", ".join(f"{k} {v}" for k, v in d.versions.items()) or "–", "wrap")),
        ],
    )
    return sheet(
        f"Diagnosis of {d.name}",
        f"{describe_action(d.action)}; lattice {'×'.join(map(str, d.shape))}; {d.created[:10]}"
        + (f"; latticediff {d.versions['latticediff']}" if "latticediff" in d.versions else ""),
        _verdict(d),
        [
            ("Weights", _weights(d) + some("weights", "tails")),
            ("Where the spread comes from", some("levels", "shares")),
            ("Integration", _integration(d) + some("doubling")),
            ("Action and conventions", theory(d.action)),
            ("About this page", about),
        ],
    )
