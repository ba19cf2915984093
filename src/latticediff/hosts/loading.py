"""`load`: a trained model by name or folder, as a host program uses it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..model.kinds import is_phases
from ..model.phases import load_phases
from ..model.storage import load_model
from ..types import Extents, PathLikeStr
from .model import Model
from .phases import PhasesModel

if TYPE_CHECKING:
    from ..action import Action

__all__ = ["load"]


def load(
    name: PathLikeStr, action: Action | None = None, shape: Extents | None = None, device: str = "cpu"
) -> Model | PhasesModel:
    """A trained model, ready to propose.

    Parameters
    ----------
    name : str or path-like
        Name of a shipped model (``latticediff models`` lists them), or a folder that ``train``, ``finetune`` or ``mix``
        wrote.
    action : Action, optional
        Of a model of several couplings, the one at these; another model of another theory is refused.
    shape : tuple of int, optional
        The same for the lattice.
    device : str
        Of torch; the compiled versions of networks run on the CPU.

    Returns
    -------
    Model, or PhasesModel
        The latter, used alike, from a folder of coexisting phases.

    Raises
    ------
    FileError, ModelError
        No such model, damaged, or of another theory or lattice.

    Examples
    --------
    >>> model = load("phi4-A-L8")
    >>> phi, log_q = model.proposal().draw(100, rng=1)
    >>> log_weight = -model.action(phi) - log_q
    """
    if is_phases(name):
        return PhasesModel(load_phases(name, device, action, shape), Path(name).name)
    return Model(load_model(name, device, action, shape), Path(name).name)
