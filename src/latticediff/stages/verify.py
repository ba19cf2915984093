"""Is a file what it says it is? Ensembles and pools: checksums and action recomputed; models: hash of the weights."""

from pathlib import Path

from ..ensemble import verify as verify_ensemble
from ..errors import FileError
from ..host import numpy_defaults
from ..model.kinds import is_phases
from ..pool.files import is_pool
from ..types import PathLikeStr
from ..untrusted import status
from .pools import verify_pool

__all__ = ["verify"]


@numpy_defaults()
def verify(path: PathLikeStr) -> str:
    """Check whether an ensemble file, a pool or a model folder is what it says it is.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    str
        One line that says what was checked.

    Raises
    ------
    FileError
        The file cannot be read, or it is not what it says it is: the first fault and how many there are.
    ModelError
        Weights that do not match their hash, or hold NaN.
    """
    path = Path(path)
    status(path)  # a name too long, for instance
    if (path / "weights.safetensors").exists():
        from ..model.storage import load_model

        model = load_model(path)
        return f"{path} is sound: weights are finite and match the hash in the card, {model.fingerprint()}"
    if is_phases(path):
        from ..model.phases import load_phases

        phases = load_phases(path)
        return f"{path} is sound: {len(phases.models)} models match the hashes in their cards, {phases.fingerprint()}"
    if is_pool(path):
        return verify_pool(path)
    report = verify_ensemble(path)
    if not report.ok:
        more = f" (and {len(report.problems) - 1} more faults)" if len(report.problems) > 1 else ""
        raise FileError(
            f"{path} is damaged: {report.problems[0]}{more}; do not use it, restore it or generate it again"
        )
    notes = "".join(f"; {note}" for note in report.notes)
    return (
        f"{path} is sound: {report.n_cfg} configurations, {report.n_updates} updates, checksums match, "
        f"stored action reproduced within {report.action_difference:.1e}; digest {report.digest}{notes}"
    )
