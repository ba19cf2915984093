"""What a reader must know before believing the numbers of a run; the page says it in its opening."""

from .model import ChainResult, RunResult
from .numbers import TAU_NAMES

__all__ = ["CHECK_ALARM", "MIN_TAUS", "failed_checks", "thinning", "too_short", "tuning"]

MIN_TAUS = 20  # per chain; below, the automatic window ends in noise
CHECK_ALARM = 4.0  # of an identity against its exact value; 6e-5 by chance


def too_short(run: RunResult) -> list[ChainResult]:
    """The chains that are shorter than `MIN_TAUS` of their largest tau_int.

    The automatic window of such a chain ends in noise, so neither its tau_int nor any of its errors is known.

    Parameters
    ----------
    run : RunResult

    Returns
    -------
    list of ChainResult
    """
    return [c for c in run.chains if c.slowest and c.n_updates < MIN_TAUS * c.tau_int[c.slowest][0]]


def thinning(run: RunResult) -> list[str]:
    """One sentence for each chain that was recorded only every `thin` updates.

    A series of independent entries has a tau_int of 0.5 entries, which is ``thin / 2`` updates: the tau_int that is
    found cannot come out smaller, however small the true one is.

    Parameters
    ----------
    run : RunResult

    Returns
    -------
    list of str
    """
    return [
        f"{c.label} was recorded only every {c.thin} updates, so its τ_int cannot come out below {c.thin / 2:g} and is "
        "an upper bound, and so is its cost."
        for c in run.chains
        if c.thin > 1 and c.tau_int
    ]


def tuning(chain: ChainResult) -> str | None:
    """One sentence that says which settings of a chain's HMC were tuned, and which were given.

    Parameters
    ----------
    chain : ChainResult

    Returns
    -------
    str or None
        None if no part of the chain is HMC, or its description does not record a tuning.
    """
    parts = [chain.algorithm, *chain.algorithm.get("parts", ())]
    kernel = next((part for part in parts if part.get("name") == "hmc"), None)
    if kernel is None or not kernel.get("tuning"):
        return None
    length, integrator = f"{kernel['trajectory_length']:.3g}", kernel["integrator"]
    search = kernel["tuning"].get("search")
    if search is None:
        return (
            f"Of {chain.label} only the step size was tuned, to {100 * kernel['tuning']['target_acceptance']:.3g} %"
            f" acceptance: trajectories of length {length} by {integrator} were given, and others may be cheaper."
        )
    name = TAU_NAMES.get(search["observable"], search["observable"])
    return (
        f"{chain.label} is tuned in trajectory length ({length}), integrator ({integrator}) and step size: the fewest"
        f" force evaluations per independent value of {name} that a search found."
    )


def failed_checks(run: RunResult) -> list[tuple[str, float, float]]:
    """The exact identities that a run violates by more than `CHECK_ALARM` errors.

    They are the Schwinger-Dyson equation and ``<exp(-delta_h)> = 1``.

    Parameters
    ----------
    run : RunResult

    Returns
    -------
    list of (str, float, float)
        Name, value and error of each; the exact value is 1.
    """
    return [
        (name, *run.checks[name])
        for name in ("schwinger_dyson", "exp_minus_delta_h")
        if isinstance(run.checks.get(name), tuple | list)
        and run.checks[name][1] is not None
        and abs(run.checks[name][0] - 1) > CHECK_ALARM * run.checks[name][1]
    ]
