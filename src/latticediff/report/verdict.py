"""The opening of the page: what was sampled, whether the samplers agree, what they cost, who wins.

One set of rules for every sampler: a result against the learned ones is printed like one for them.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from ..action import CONVENTIONS
from .caveats import MIN_TAUS, failed_checks, thinning, too_short, tuning
from .cheapest import cheapest_learned
from .model import ChainResult, RunResult
from .numbers import (
    OBSERVABLES,
    TAU_NAMES,
    break_even,
    cost_ratio,
    count,
    differences,
    seconds,
    setup_total,
    value_error,
)

__all__ = ["describe_action", "failed_checks", "thinning", "too_short", "tuning", "verdict"]

SIGMA_ALARM = 3.0  # of an observable against the reference
PURPOSES = {
    "generate": "to generate training data",
    "thermalise": "to thermalise",
    "search": "to find its cheapest settings",
    "train": "to train",
    "finetune": "to fine-tune",
    "ancestors": "to train the models whose weights it began with",
    "ancestor_data": "to generate their data",
}


def describe_action(action: Mapping[str, Any]) -> str:
    """An action in words: ``φ⁴ theory, convention A (m2 = −4, lam = 6.008)``.

    Parameters
    ----------
    action : dict
        ``action.describe()``.

    Returns
    -------
    str
    """
    kind: Any = action.get("name")
    named: Any = action.get("convention")
    known = CONVENTIONS.get(named) if kind == "phi4" else None
    values = action.get("couplings", {})  # files sort them; the convention's order reads better
    names = [name for name in (known.couplings if known else values) if name in values]
    couplings = ", ".join(f"{name} = {values[name]:g}".replace("-", "−") for name in names)
    name = {"phi4": "φ⁴ theory"}.get(kind, f"the action {action.get('name', 'unknown')!r}")
    convention = f", convention {action['convention']}" if action.get("convention") else ""
    return f"{name}{convention}" + (f" ({couplings})" if couplings else "")


def _and(items: Iterable[str]) -> str:
    items = list(items)
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def _sampled(run: RunResult) -> str:
    lattice = "×".join(str(extent) for extent in run.shape)
    runs = _and(f"{c.label} ({c.n_chains} chains of {count(c.n_updates, exact=True)} updates)" for c in run.chains)
    return f"This page shows {describe_action(run.action)} on a periodic {lattice} lattice, sampled by {runs}."


def _agreement(run: RunResult) -> tuple[str, str] | None:
    """(short, sentence) on the differences from the reference; None with nothing to compare."""
    # a chain too short to judge is not said to agree; a difference of its is still said
    brief = {chain.name for chain in too_short(run)}
    judged = [
        chain
        for chain in run.chains[1:]
        if chain.name not in brief or any(abs(d or 0) > SIGMA_ALARM for d in differences(chain, run.reference).values())
    ]
    found = [
        (abs(d), d, name, chain.label)
        for chain in judged
        for name, d in differences(chain, run.reference).items()
        if d is not None
    ]
    if not found:
        return None
    others = _and(chain.label for chain in judged)
    size, signed, name, label = max(found)
    symbol = OBSERVABLES.get(name, (name,))[0]
    chance = min(1.0, len(found) * math.erfc(SIGMA_ALARM / math.sqrt(2)))
    rule = (
        f"The largest of {len(found)} differences is {value_error(round(signed, 1))}σ ({symbol}, {label}); one beyond "
        f"{SIGMA_ALARM:g}σ would happen by chance in at most {100 * chance:.1g} % of such pages."
    )
    plural = len(judged) > 1
    if size <= SIGMA_ALARM:
        short = f"{others} {'agree' if plural else 'agrees'} with {run.reference.label}"
        return short, f"Every observable of {others} agrees with {run.reference.label}. {rule}"
    bad = [
        f"{OBSERVABLES.get(n, (n,))[0]} of {who} by {value_error(round(d, 1))}σ"
        for s, d, n, who in found
        if s > SIGMA_ALARM
    ]
    culprits = _and(dict.fromkeys(who for s, _, _, who in found if s > SIGMA_ALARM))
    short = f"{culprits} not in agreement with {run.reference.label}"
    return short, f"Not in agreement with {run.reference.label}: {_and(bad)}. {rule}"


def _quality(chain: ChainResult) -> str | None:
    parts = []
    if chain.acceptance is not None:
        parts.append(f"accepts {100 * chain.acceptance:.1f} %")
    if chain.ess_reverse is not None:
        parts.append(f"effective sample size {value_error(*chain.ess_reverse)} over its proposals (reverse)")
    if chain.ess_forward is not None:
        parts.append(f"{value_error(*chain.ess_forward)} over held-out data (forward)")
    if not parts:
        return None
    text = f"{chain.label}: {', '.join(parts)}."
    if chain.ess_reverse and chain.ess_forward:
        gap = chain.ess_reverse[0] - chain.ess_forward[0]
        error = math.hypot(chain.ess_reverse[1] or 0.0, chain.ess_forward[1] or 0.0)
        if gap > max(0.02, SIGMA_ALARM * error) or chain.ess_forward[0] < 0.5 * chain.ess_reverse[0]:
            text += " The forward one is well below the reverse one: the model misses some of the configurations."
    return text


def _tau(run: RunResult) -> str | None:
    parts = []
    for name in ("m", "abs_m"):
        known = [f"{c.label} {value_error(*c.tau_int[name])}" for c in run.chains if name in c.tau_int]
        if known:
            parts.append(f"of {TAU_NAMES[name]}: {', '.join(known)}")
    if not parts:
        return None
    return " ".join([f"τ_int in updates (0.5 is independent) {'; '.join(parts)}.", *thinning(run)])


def _cost(run: RunResult) -> tuple[str, list[str]] | None:
    """(short, sentences) on cost; None where no seconds are known."""
    costs = [(c, c.per_independent_sample(c.seconds_per_update)) for c in run.chains]
    priced = [(c, p) for c, p in costs if p is not None]
    if not priced:
        return None
    text = [
        "One independent sample (2τ_int updates) costs " + _and(f"{c.label} {seconds(*p)}" for c, p in priced) + "."
    ]
    counts = [(c, c.per_independent_sample(c.evaluations_per_update)) for c in run.chains]
    evaluations = [f"{c.label} {value_error(*p)} {c.evaluation_kind}" for c, p in counts if p is not None]
    if evaluations:
        text.append(f"In evaluations: {_and(evaluations)}.")
    without_sign = [(c, c.per_independent_sample(c.seconds_per_update, "abs_m")) for c, _ in priced]
    if any(c.slowest == "m" for c, _ in priced) and all(p is not None for _, p in without_sign):
        text.append(
            "That is of the slowest observable. Of |m|, without the sign that a flip of the whole field changes for"
            f" nothing, it is {_and(f'{c.label} {seconds(*p)}' for c, p in without_sign if p is not None)}."
        )
    reference, winners = run.reference, []
    for chain in run.chains[1:]:
        if (ratio := cost_ratio(chain, reference)) is None:
            continue
        value, error = ratio
        paid = setup_total(chain) - setup_total(reference)
        items = [
            f"{seconds(s)} {PURPOSES.get(name, f'for {name}')}" for name, s in chain.setup_seconds.items() if s > 0
        ]
        first = f" First it pays {_and(items)}." if items else ""
        if value - 2 * error > 1:
            winners.append((value, chain))
            even = break_even(chain, reference)
            when = f" That is repaid after {count(even)} independent samples." if even and paid > 0 else ""
            text.append(
                f"{chain.label} is {value_error(*ratio)} times cheaper per sample than {reference.label}.{first}{when}"
            )
        elif value + 2 * error < 1:
            dearer = value_error(1 / value, error / value**2)
            never = first[:-1] + ", which is never repaid on this lattice." if items else ""
            text.append(f"{chain.label} is {dearer} times dearer per sample than {reference.label}.{never}")
        else:
            text.append(f"{chain.label} and {reference.label} cost the same per sample within errors.{first}")
    if len(priced) < 2 or priced[0][0] is not reference:
        return "", text
    if not winners:
        rivals = [c for c, _ in priced[1:] if (r := cost_ratio(c, reference)) and r[0] + 2 * r[1] >= 1]
        if rivals:
            return f"in seconds {_and(c.label for c in rivals)} and {reference.label} are equal within errors", text
        return f"in seconds {reference.label} wins on this lattice at any number of samples", text
    value, chain = max(winners, key=lambda w: w[0])
    even = break_even(chain, reference)
    when = f" beyond {count(even)} independent samples" if even else " at any number of samples"
    return f"in seconds {chain.label} wins on this lattice{when}", text


def verdict(run: RunResult) -> tuple[str, list[str]]:
    """The opening of the page.

    Parameters
    ----------
    run : RunResult

    Returns
    -------
    headline : str
        One sentence.
    paragraphs : list of str
        What was sampled, whether the samplers agree, how good their proposals are, and what a sample costs.
    """
    sentences = [_sampled(run)]
    shorts = []
    for name, value, error in failed_checks(run):
        shorts.append("the run fails an exact identity")
        sentences.append(f"Do not trust this run: {name} is {value_error(value, error)} where 1 is exact.")
    for chain in too_short(run):
        slowest: Any = chain.slowest  # none is too short without a tau_int
        length = chain.n_updates / chain.tau_int[slowest][0]
        shorts.append(f"{chain.label} is too short to judge")
        sentences.append(
            f"Do not trust the errors of {chain.label}: a chain of {count(chain.n_updates, exact=True)} updates is "
            f"only {length:.2g} τ_int long where {MIN_TAUS} are wanted; it sticks, or it needs more updates."
        )
    if agreement := _agreement(run):
        shorts.append(agreement[0])
        sentences.append(agreement[1])
    paragraphs: list[list[str | None]] = [[text for chain in run.chains if (text := _quality(chain))], [_tau(run)]]
    paragraphs += [[words for chain in run.chains if (words := tuning(chain))]]
    if cost := _cost(run):
        shorts += [cost[0]] if cost[0] else []
        paragraphs.append([*cost[1]])
    if cheapest := cheapest_learned(run):
        shorts.append(cheapest[0])
        paragraphs.append([*cheapest[1]])
    sentences += [" ".join(filter(None, paragraph)) for paragraph in paragraphs if any(paragraph)]
    headline = "; ".join(dict.fromkeys(shorts)) or f"{_and(c.label for c in run.chains)} on one page"
    named = any(headline.startswith(chain.label) for chain in run.chains)  # a name is left as it is
    return (headline if named else headline[0].upper() + headline[1:]) + ".", sentences
