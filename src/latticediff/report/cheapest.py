"""Which of several learned samplers costs least, and what it costs beside the reference."""

import math

from .model import ChainResult, RunResult
from .numbers import seconds, value_error

__all__ = ["cheapest_learned"]


def cheapest_learned(run: RunResult) -> tuple[str, list[str]] | None:
    """Compare the processor time that learned samplers take for an independent value of the modulus of m.

    Of m itself they all pay little, since a draw has either sign; the modulus is what is hard about this theory.

    Parameters
    ----------
    run : RunResult

    Returns
    -------
    (str, list of str) or None
        A few words for the headline, and sentences. None unless the processor time of two learned samplers and that of
        the reference are known. Prices within two errors of each other are called equal.
    """
    priced = [(chain, price) for chain in run.chains if (price := chain.processor_price) is not None]
    learned = sorted((price, chain.label) for chain, price in priced if chain.is_learned)
    reference = run.reference.processor_price
    if len(learned) < 2 or reference is None or not reference[0] > 0 or not learned[0][0][0] > 0:
        return None
    listed = [f"{chain.label} {seconds(*price)}" for chain, price in priced]
    text = [
        "In processor time, all samplers measured in turn in this run, an independent value of |m| costs"
        f" {', '.join(listed[:-1])} and {listed[-1]}."
    ]
    (best, error), label = learned[0]
    equals = [name for (price, off), name in learned[1:] if price - best <= 2 * math.hypot(error or 0.0, off or 0.0)]
    ratio = best / reference[0]
    off = ratio * math.hypot((error or 0.0) / best, (reference[1] or 0.0) / reference[0])
    against = _against(ratio, off, run.reference)
    if equals:
        names = f"{', '.join([label, *equals[:-1]])} and {equals[-1]}"
        text.append(f"Of the learned samplers {names} cost least, equal within errors; {label} is {against}.")
        return f"of the learned samplers {names} cost least, equal within errors", text
    text.append(f"Of the learned samplers {label} is the cheapest; it is {against}.")
    return f"of the learned samplers {label} is the cheapest, {against}", text


def _against(ratio: float, error: float, reference: ChainResult) -> str:
    """The price of a sampler in words, from its ratio to that of the reference."""
    if ratio - 2 * error > 1:
        return f"{value_error(ratio, error)} times dearer than {reference.label}"
    if ratio + 2 * error < 1:
        return f"{value_error(1 / ratio, error / ratio**2)} times cheaper than {reference.label}"
    return f"as dear as {reference.label} within errors"
