"""Draws of a model and classical chains beside it, measured as finite-size scaling needs it, in one file a coupling.

Both are run in turn, a batch of draws and then chains for as much processor time, so that what else the machine does
meets both. Fields are not kept: of each there are b, A, m^2 and the lowest shell (`latticediff.analysis.finite_size`).
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..analysis import pareto_k, tau_int
from ..analysis.finite_size import Source
from ..atomic import sealed_bytes
from ..digests import check_digest, with_digest
from ..errors import FileError, StopRequested
from ..metropolis.asking import ask_draw
from ..observables.primary import propagator_k_min
from ..untrusted import parse_json, regular_file, status

if TYPE_CHECKING:
    from ..action import Phi4
    from ..streams import Streams
    from ..types import Description, FloatArray

__all__ = ["COLUMNS", "Fields", "measured", "read_fields", "sampled", "source_of", "write_fields"]

COLUMNS = ("base", "conjugate", "m2", "shell")
SITES = 2**18  #: of a batch of draws
KEPT = 8  #: fields of each classical chain between looks at the clock
PILOT = 200  #: updates of the chains from which follows how many lie between two fields that are measured


class Fields(NamedTuple):
    """What was measured at one coupling: sampler to its columns, each (n_chains, n), and what the samplers cost."""

    columns: dict[str, dict[str, FloatArray]]
    about: Description


def measured(phi: FloatArray) -> dict[str, FloatArray]:
    """A, m^2 and the lowest shell of fields (..., L, L), each of the shape of the leading axes.

    ``A = 2 sum phi phi'`` over the links, so that ``S = S_0 - kappa A`` in convention H.
    """
    lead, flat = phi.shape[:-2], phi.reshape(-1, *phi.shape[-2:])
    neighbours = np.roll(flat, -1, axis=1) + np.roll(flat, -1, axis=2)
    m = flat.mean(axis=(1, 2))
    return {
        "conjugate": 2 * np.einsum("nij,nij->n", flat, neighbours).reshape(lead),
        "m2": (m * m).reshape(lead),
        "shell": propagator_k_min(flat).reshape(lead),
    }


def sampled(
    action: Phi4,
    proposal: Any,
    draws: int,
    kernels: Mapping[str, Any],
    start: FloatArray,
    streams: Streams,
    stop: Any = None,
    reach: Callable[[int], object] = lambda done: None,
) -> Fields:
    """Draw `draws` fields of a proposal, and run each kernel for as much processor time, all in turn.

    Parameters
    ----------
    action : Phi4
        In convention H.
    proposal : Proposal
    draws : int
    kernels : dict
        Name to a classical kernel.
    start : ndarray, shape (n_chains, L, L)
        Fields in equilibrium, where the chains begin: their thermalisation is not charged.
    streams : Streams
    stop : callable, optional
        Asked between batches; nothing of an unfinished coupling is kept.
    reach : callable
        Gets the number of draws so far, after each batch and its chains.

    Returns
    -------
    Fields
    """
    kappa, shape = action.couplings["kappa"], start.shape[1:]
    batch = min(draws, max(16, SITES // int(np.prod(shape))))
    parts: dict[str, dict[str, list[FloatArray]]] = {name: {c: [] for c in COLUMNS} for name in ("learned", *kernels)}
    spent = dict.fromkeys(parts, 0.0)
    states = {name: kernel.start(start) for name, kernel in kernels.items()}
    # what is compiled at a first call is not what a draw costs
    ask_draw(proposal, 16, streams.child("first").generator("draw"))
    thin: dict[str, int] = {}
    for name, kernel in kernels.items():
        states[name], block = kernel.advance(states[name], streams.child(f"first-{name}"), PILOT)
        # two fields of one tau_int say little more than one, and measuring them takes its time
        thin[name] = max(1, round(tau_int(measured(block.phi)["m2"].T, name="m2").value / 2))
    done, rng = 0, streams.generator("draw")
    while done < draws:
        if stop is not None and (reason := stop()):
            raise StopRequested(f"{reason}; what is done is kept, run the same command again", reason.exit_code)
        n = min(batch, draws - done)
        began = time.process_time()
        draw = ask_draw(proposal, n, rng)
        spent["learned"] += time.process_time() - began
        found = measured(draw.phi)
        log_weight = -action(draw.phi) - draw.log_q
        sound = np.isfinite(log_weight)
        found["base"] = np.where(sound, log_weight - kappa * np.where(sound, found["conjugate"], 0.0), -np.inf)
        for column in COLUMNS:
            parts["learned"][column].append(found[column][None])
        done += n
        for name, kernel in kernels.items():
            while spent[name] < spent["learned"]:
                began = time.process_time()
                states[name], block = kernel.advance(states[name], streams.child(name), KEPT * thin[name], thin[name])
                spent[name] += time.process_time() - began
                found = {key: value.T for key, value in measured(block.phi).items()}
                found["base"] = -kappa * found["conjugate"]
                for column in COLUMNS:
                    parts[name][column].append(found[column])
        reach(done)
    columns = {
        name: {column: np.concatenate(pieces, axis=1) for column, pieces in table.items()}
        for name, table in parts.items()
    }
    about: Description = {"kappa": kappa, "shape": list(shape), "seconds": spent}
    about["samplers"] = {name: _told(columns[name], kappa, kernels.get(name), thin.get(name, 1)) for name in columns}
    about["samplers"]["learned"]["evaluations"] = draws * int(proposal.evaluations_per_draw)
    return Fields(columns, about)


def _told(columns: Mapping[str, FloatArray], kappa: float, kernel: Any, thin: int) -> Description:
    """Entries, and how they hang together: tau_int of m^2 of a chain in its entries, ESS and tail of weights."""
    n_chains, n = columns["m2"].shape
    told: Description = {"n_chains": n_chains, "n": n}
    if kernel is None:
        log_weight = columns["base"] + kappa * columns["conjugate"]
        w = np.exp(log_weight - log_weight.max())
        told |= {"ess": float(w.sum() ** 2 / (w * w).sum() / w.size), "pareto_k": float(pareto_k(log_weight.ravel()))}
        return told
    tau = tau_int(columns["m2"], name="m2")
    told |= {"thin": thin, "tau_int": tau.pair(), "window_found": bool(tau.window_found), "kernel": kernel.describe()}
    each = getattr(kernel, "force_evaluations_per_update", None)
    if each is not None:
        told["evaluations"] = float(each) * n * n_chains * thin
    return told


def source_of(fields: Fields, sampler: str) -> Source:
    """What finite-size scaling takes of one sampler.

    Raises
    ------
    FileError
        The sampler was not run.
    """
    if sampler not in fields.columns:
        raise FileError(f"{sampler} was not run at kappa = {fields.about['kappa']}; it has {', '.join(fields.columns)}")
    told = fields.about["samplers"][sampler]
    columns = fields.columns[sampler]
    return Source(int(fields.about["shape"][0]), **columns, tau_int=max(0.5, told.get("tau_int", [0.5])[0]))


def write_fields(path: Path, fields: Fields, identity: Description) -> None:
    """Write an ``.npz``, whole or not at all; `identity` says of what."""
    # NumPy's types take a bool beside arrays, which its first version of 2 does not
    arrays: dict[str, Any] = {
        f"{name}.{column}": values for name, table in fields.columns.items() for column, values in table.items()
    }
    sums = {key: [float(np.sum(v, where=np.isfinite(v))), list(v.shape)] for key, v in arrays.items()}
    told = json.dumps(with_digest({"identity": identity, "about": fields.about, "sums": sums}))
    out = io.BytesIO()
    np.savez(out, told=np.frombuffer(told.encode(), np.uint8), **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    sealed_bytes(path, out.getvalue())


def read_fields(path: Path, identity: Description) -> Fields | None:
    """What `write_fields` wrote for this identity; None where there is nothing yet, or of another identity.

    Raises
    ------
    FileError
        The file is damaged.
    """
    if status(path) is None:
        return None
    regular_file(path)
    remedy = "remove it, and its coupling is sampled again"
    try:
        with np.load(path, allow_pickle=False) as held:
            arrays = {key: held[key] for key in held.files}
        told = parse_json(arrays.pop("told").tobytes().decode(), path)
        document = check_digest(told, path, remedy)
        for key, (total, shape) in document["sums"].items():
            values = arrays[key]
            same = list(values.shape) == shape and float(np.sum(values, where=np.isfinite(values))) == total
            if not same or values.dtype != np.float64:
                raise ValueError(key)
        if unknown := arrays.keys() - document["sums"].keys():
            raise ValueError(f"it holds {min(unknown)}, too")
    except FileError:
        raise
    except Exception as exc:  # zip, NumPy and UTF-8 each have errors of their own for a torn file
        raise FileError(f"{path} is damaged ({' '.join(str(exc).split())[:80]}); {remedy}") from None
    if document["identity"] != json.loads(json.dumps(identity)):
        return None
    columns: dict[str, dict[str, FloatArray]] = {}
    for key, values in arrays.items():
        name, column = key.split(".")
        columns.setdefault(name, {})[column] = values
    return Fields(columns, document["about"])
