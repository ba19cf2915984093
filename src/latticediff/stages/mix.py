"""Stage mix: models of coexisting phases become one, which proposes them in proportion."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..analysis.gamma import format_error
from ..build.device import pick_device
from ..errors import FileError, UserError
from ..host import torch_defaults
from ..job.progress import Progress
from ..model.phases import Parts, Phases, check_one_theory, natural_parts, save_phases
from ..model.storage import load_model
from ..proposal.mixture import PartLogZ, part_log_z
from ..proposal.own import proposal_for
from ..streams import Streams
from ..types import PathLikeStr

__all__ = ["MixResult", "mix"]

FEWEST_INSIDE = 0.98  # share of draws that stay in their part, below which a boundary is worth a word


@dataclass(frozen=True)
class MixResult:
    """What `mix` found of each part."""

    names: tuple[str, ...]
    phases: Phases
    found: tuple[PartLogZ, ...]

    def to_text(self) -> str:
        """A table for people, and the differences of free energy between neighbours."""
        parts, theory = self.phases.parts, self.phases.theory
        edges = [-math.inf, *parts.boundaries, math.inf]
        symbol = {"m": "m", "abs_m": "|m|"}[parts.order_parameter]
        lines = [
            f"{theory!r} on {'x'.join(map(str, self.phases.lattice))}: {len(parts)} phases",
            f"  {'model':24}{symbol:>20}  {'log Z':>16}  {'share':>8}  {'ESS':>7}  {'draws inside':>12}",
        ]
        for number, (name, part) in enumerate(zip(self.names, self.found, strict=True)):
            interval = f"{edges[number]:.4g} to {edges[number + 1]:.4g}"
            share, log_z = self.phases.probabilities[number], format_error(part.log_z, part.error)
            lines.append(f"  {name:24}{interval:>20}  {log_z:>16}  {share:8.4f}  {part.ess:7.4f}  {part.inside:12.4f}")
        for (low, a), (high, b) in itertools.pairwise(zip(self.names, self.found, strict=True)):
            change = format_error(b.log_z - a.log_z, math.hypot(a.error, b.error))
            lines.append(f"  log Z({high}) - log Z({low}) = {change}")
        for name, part in zip(self.names, self.found, strict=True):
            if part.warning:
                lines.append(f"  warning: log Z({name}) {part.warning}")
        if any(part.inside < FEWEST_INSIDE for part in self.found):
            lines.append(
                "  draws that leave their part are rejected, and what a part holds beyond its model's reach is missed:"
                " set --boundary where fields are rarest"
            )
        return "\n".join(lines)


@torch_defaults()
def mix(
    models: Sequence[PathLikeStr],
    out: PathLikeStr,
    boundaries: Sequence[float] | None = None,
    order_parameter: str | None = None,
    n: int = 4000,
    seed: int = 1,
    device: str = "auto",
    progress: Progress | None = None,
) -> MixResult:
    """Measure each phase's log Z by the draws of its model, and write a model of all of them to the folder `out`.

    Parameters
    ----------
    models : sequence of path-like or str
        Two or more model folders, one for each phase, each trained on configurations of its phase.
    out : path-like
    boundaries : sequence of float, optional
        Between the phases, in their order; default: `natural_parts`.
    order_parameter : {"m", "abs_m"}, optional
        The one that `natural_parts` finds, which is the default; another is refused.
    n : int
        Draws of each model.
    seed : int
    device : str
        See `latticediff.build.device.pick_device`.
    progress : Progress, optional

    Returns
    -------
    MixResult

    Raises
    ------
    FileError, ModelError, UserError
        Something is there already, models that do not fit together, impossible numbers, or a part that none of the
        draws stays in.
    """
    progress = progress or Progress()
    if len(models) < 2:
        raise UserError(f"got {len(models)} model; expected two or more, one for each phase")
    if n < 8:
        raise UserError(f"n is {n}; expected at least 8 draws")
    if Path(out).exists():
        raise FileError(f"{out} is there already and is never overwritten; choose another --out")
    loaded = [load_model(folder, pick_device(device)) for folder in models]
    check_one_theory(loaded)
    order, parts = natural_parts(loaded)
    if order_parameter not in (None, parts.order_parameter):
        raise UserError(
            f"order_parameter is {order_parameter!r}; models expanded around"
            f" {', '.join(f'{model.gaussian.vacuum:.3g} ({model.gaussian.phase})' for model in loaded)} are told apart"
            f" by {parts.order_parameter}"
        )
    if boundaries is not None:
        parts = Parts(boundaries, parts.order_parameter)
    if len(parts) != len(loaded):
        raise UserError(f"{len(parts) - 1} boundaries for {len(loaded)} phases; expected {len(loaded) - 1}")
    streams, found = Streams(seed).child("mix"), []
    with progress.task("draws", len(loaded)) as task:
        for number, which in enumerate(order):
            model = loaded[which]
            rng = streams.generator(f"part-{number}")
            found.append(part_log_z(proposal_for(model), model.theory, parts, number, n, rng))
            task.advance()
    phases = Phases([loaded[which] for which in order], parts, [(part.log_z, part.error) for part in found])
    save_phases(phases, out)
    return MixResult(tuple(Path(models[which]).name for which in order), phases, tuple(found))
