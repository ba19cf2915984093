"""The verdict in three sentences: what was sampled and by what, whether that agrees, and what it costs."""

from .cheapest import cheapest_learned
from .model import ChainResult, RunResult
from .numbers import OBSERVABLES, cost_ratio, differences, value_error
from .verdict import SIGMA_ALARM, describe_action

__all__ = ["brief"]

#: what the routes are, for readers who have not met them
ROUTES = {
    "ode": "the ODE (a flow from noise to a field, whose density is known)",
    "sde": "the SDE (a random path from noise to a field, weighed as a whole)",
}


def brief(run: RunResult) -> list[str]:
    """Three sentences or fewer, each from the same numbers as the long verdict.

    Parameters
    ----------
    run : RunResult

    Returns
    -------
    list of str
    """
    return [sentence for sentence in (_sampled(run), _agreement(run), _cost(run)) if sentence]


def _and(items: list[str]) -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def _sampled(run: RunResult) -> str:
    lattice = "×".join(map(str, run.shape))
    named = _and([ROUTES.get(chain.name, chain.label) for chain in run.chains])
    learned = any(chain.is_learned for chain in run.chains)
    rule = "; what a network proposes is accepted or refused so that averages are exact" if learned else ""
    return f"{describe_action(run.action)} on {lattice} was sampled by {named}{rule}."


def _agreement(run: RunResult) -> str:
    found = [
        (abs(d), d, name, chain)
        for chain in run.chains[1:]
        for name, d in differences(chain, run.reference).items()
        if d is not None
    ]
    if not found:
        return ""
    size, signed, name, chain = max(found, key=lambda entry: entry[0])
    symbol = OBSERVABLES.get(name, (name,))[0]
    said = "" if size <= SIGMA_ALARM else f", beyond the {SIGMA_ALARM:g}σ that chance hardly ever exceeds"
    return (
        f"Of {len(found)} differences from {run.reference.label} the largest is {value_error(round(signed, 1))}σ"
        f" ({symbol}, {chain.label}){said}."
    )


def _cost(run: RunResult) -> str:
    if cheapest := cheapest_learned(run):
        return cheapest[1][0]

    def said(chain: ChainResult, value: float, error: float) -> str:
        if value - 2 * error > 1:
            return f"{chain.label} costs {value_error(value, error)} times less"
        if value + 2 * error < 1:
            return f"{chain.label} {value_error(1 / value, error / value**2)} times more"
        return f"{chain.label} the same within errors"

    parts = [said(chain, *ratio) for chain in run.chains[1:] if (ratio := cost_ratio(chain, run.reference)) is not None]
    return f"Per independent sample, in seconds and beside {run.reference.label}: {_and(parts)}." if parts else ""
