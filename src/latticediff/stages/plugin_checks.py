"""What is tried of a plug-in of each group; every fault is one line.

A class that cannot be made without arguments may say how: an attribute ``example``, a description such as its
``from_description`` takes. Without it only the parts of the contract are looked for.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import registry
from ..action import Action, Phi4, action_from_description
from ..contracts import missing_parts
from ..errors import UserError
from ..markov import ActionKernel, Restorable, kernel_from_description
from ..metropolis.asking import ask_draw, ask_weigh
from ..metropolis.contract import Proposal
from ..observables import measure_primary
from ..observables.table import observable, observable_names
from ..streams import Streams

__all__ = ["check"]

SHAPE = (4, 6)
MODEL = "phi4-A-L8-score"  #: small, of all sites, with weights for both routes
Faults = list[str]
EXAMPLE = "to have it tried, give the class an attribute `example`, a description that its from_description takes"


def check(group: str, name: str) -> tuple[Faults, Faults]:
    """Hold a plug-in against the contract of its group.

    Parameters
    ----------
    group, name : str
        As registered.

    Returns
    -------
    faults, notes : list of str
        A line for each; notes say what could not be tried.
    """
    faults: Faults = []
    notes: Faults = []
    try:
        found = registry.load(group, name)
        CHECKS[group](name, found, faults, notes)
    except UserError as exc:
        faults.append(" ".join(str(exc).split()))
    except Exception as exc:  # whatever the code of somebody else does when it is tried
        faults.append(" ".join(f"raised {type(exc).__name__}: {exc}".split()))
    return faults, notes


def _lacks(found: Any, contract: type, faults: Faults) -> bool:
    """Note the methods of a contract that a class does not have; what is set when it is made, nobody can see yet."""
    methods = {name for base in contract.__mro__ for name, part in vars(base).items() if inspect.isfunction(part)}
    if lost := [part for part in missing_parts(found, contract) if part in methods]:
        faults.append(f"has no {', '.join(lost)}; the contract {contract.__module__}.{contract.__qualname__} wants it")
    return bool(lost)


def _made(found: Any, make: Callable[[dict[str, Any]], Any], name: str, notes: Faults) -> Any:
    """The thing that a class makes of its example, or of its name alone; None where neither will do."""
    example = getattr(found, "example", None)
    if example is not None:
        return make({"name": name, **example})
    try:
        return make({"name": name})
    except Exception:
        notes.append(EXAMPLE)
        return None


def _fields(action: Any, n: int = 3) -> np.ndarray[Any, np.dtype[np.float64]]:
    shape = SHAPE[: action.ndim] if action.ndim <= 2 else (4,) * action.ndim
    return np.random.default_rng(1).standard_normal((n, *shape))


def _action(name: str, found: Any, faults: Faults, notes: Faults) -> None:
    if _lacks(found, Action, faults):
        return
    if not hasattr(found, "from_description"):
        faults.append("has no from_description; files of this theory could not be read")
        return
    action = _made(found, action_from_description, name, notes)
    if action is None:
        return
    if missing := missing_parts(action, Action):
        faults.append(f"has no {', '.join(missing)} when it is made")
        return
    phi, h = _fields(action), 1e-5
    value, force = np.asarray(action(phi)), np.asarray(action.force(phi))
    if value.shape != (len(phi),) or force.shape != phi.shape:
        faults.append(
            f"S of {phi.shape} has shape {value.shape} and force {force.shape}; expected (3,) and {phi.shape}"
        )
        return
    direction = np.random.default_rng(2).standard_normal(phi.shape)
    slope = (np.asarray(action(phi + h * direction)) - np.asarray(action(phi - h * direction))) / (2 * h)
    wanted = -(force * direction).reshape(len(phi), -1).sum(axis=1)
    if not np.allclose(slope, wanted, rtol=1e-5, atol=1e-5 * np.abs(force).max()):
        faults.append(f"force is not -dS/dphi: along one direction {wanted[0]:.6g}, by differences of S {slope[0]:.6g}")
    local = np.asarray(action.potential(phi)).reshape(len(phi), -1).sum(axis=1)
    axes = range(phi.ndim - action.ndim, phi.ndim)
    neighbours = sum((phi * np.roll(phi, 1, axis)).reshape(len(phi), -1).sum(axis=1) for axis in axes)
    if not np.allclose(value, local - action.hopping * neighbours, rtol=1e-9):
        faults.append(
            "S is not -c sum phi phi' + sum V with its own hopping and potential; compiled updates use these two alone"
        )
    compiled, slope_of, parameters = action.numba_potential()
    plain = [getattr(f, "py_func", f) for f in (compiled, slope_of)]
    for function, own in zip(plain, (action.potential, action.potential_derivative), strict=True):
        sites = [function(x, parameters) for x in phi[0].ravel()]
        if not np.allclose(sites, np.asarray(own(phi[0])).ravel(), rtol=1e-9):
            faults.append("numba_potential is not potential and potential_derivative")
            break
    if action_from_description(action.describe()).describe() != action.describe():
        faults.append("from_description(describe()) is another theory")


def _kernel(name: str, found: Any, faults: Faults, notes: Faults) -> None:
    if inspect.isclass(found) and _lacks(found, ActionKernel, faults):
        return
    if not hasattr(found, "from_description"):
        notes.append("has no from_description: its chains cannot be run on from their file, nor cards name it")
        return
    action = Phi4.A(-1.0, 1.0)
    kernel: Any = _made(found, lambda told: kernel_from_description(action, told), name, notes)
    if kernel is None:
        return
    if missing := missing_parts(kernel, Restorable):
        faults.append(f"has no {', '.join(missing)} when it is made")
        return
    phi = _fields(action, 5)

    def after(*cuts: int) -> Any:
        state, streams, kept = kernel.start(phi), Streams(3), []
        for n in cuts:
            state, block = kernel.advance(state, streams, n, 1)
            kept.append(block)
        return state, kept

    state, (whole,) = after(5)
    for what, shape, wanted in (
        ("Block.phi", whole.phi.shape, (5, *phi.shape)),
        ("Block.action", whole.action.shape, (5, 5)),
        ("ChainState.phi", state.phi.shape, phi.shape),
    ):
        if shape != wanted:
            faults.append(f"{what} of 5 updates of 5 chains has shape {shape}; expected {wanted}")
    if faults:
        return
    if state.update != 5:
        faults.append(f"counts {state.update} updates after 5")
    if not np.allclose(whole.action, action(whole.phi), rtol=1e-9):
        faults.append("the action that it gives is not that of its fields")
    if not np.array_equal(np.concatenate([block.phi for block in after(2, 3)[1]]), whole.phi):
        faults.append("updates cut into 2 and 3 have other bits than 5 at once; draw update by update from `rng`")
    if getattr(kernel.describe(), "get", lambda _: None)("name") != name:
        faults.append(f"describe() gives the name {kernel.describe().get('name')!r}; it is registered as {name!r}")


def _proposal(proposal: Any, faults: Faults) -> None:
    if missing := missing_parts(proposal, Proposal):
        faults.append(
            f"its proposal has no {', '.join(missing)}; the contract latticediff.metropolis.Proposal wants it"
        )
        return
    whole = ask_draw(proposal, 12, np.random.default_rng(5))
    rng = np.random.default_rng(5)
    parts = [ask_draw(proposal, n, rng) for n in (1, 4, 7)]
    if not np.array_equal(np.concatenate([part.phi for part in parts]), whole.phi):
        faults.append("draws of 1, 4 and 7 are not those of 12; take random numbers proposal by proposal")
    log_q = ask_weigh(proposal, whole.phi, np.random.default_rng(6))
    sound = np.isfinite(whole.log_q)
    # the ODE's two passages differ by rounding in single precision
    if proposal.is_deterministic and not np.allclose(log_q[sound], whole.log_q[sound], rtol=0, atol=1e-2):
        off = np.abs(log_q[sound] - whole.log_q[sound]).max()
        faults.append(f"weigh and draw give one field log_q that differ by {off:.3g}; chains that use both are biased")
    if proposal.fingerprint() != proposal.fingerprint():
        faults.append("its fingerprint changes from call to call")


def _model() -> Any:
    from ..model.storage import load_model

    return load_model(MODEL)


def _route(name: str, found: Any, faults: Faults, notes: Faults) -> None:
    from ..build.learned import route_named

    route = route_named(name)
    if route.weights not in ("flow", "score"):
        faults.append(f"weights is {route.weights!r}; expected 'flow' or 'score'")
    if name not in registry.names("route_options"):
        faults.append("has no options: register a pydantic model of the same name under latticediff.route_options")
        return
    options: Any = registry.load("route_options", name)()
    _proposal(route.proposal(_model(), options, 256), faults)


def _named_proposal(name: str, found: Any, faults: Faults, notes: Faults) -> None:
    if inspect.isclass(found) and _lacks(found, Proposal, faults):
        return
    try:
        proposal = found(_model())
    except (TypeError, UserError):
        notes.append("is not made of a model alone; latticediff.load(...).proposal(name, ...) gives it its options")
        return
    _proposal(proposal, faults)


def _options(name: str, found: Any, faults: Faults, notes: Faults) -> None:
    from pydantic import BaseModel

    if not (inspect.isclass(found) and issubclass(found, BaseModel)):
        faults.append("is no pydantic model; derive it from latticediff.config.sections.Section")
        return
    if found.model_config.get("extra") != "forbid":
        faults.append("takes unknown keys in silence; derive it from latticediff.config.sections.Section")
    if required := [key for key, about in found.model_fields.items() if about.is_required()]:
        notes.append(f"has no default for {', '.join(required)}; a card has to give it")


def _route_options(name: str, found: Any, faults: Faults, notes: Faults) -> None:
    _options(name, found, faults, notes)
    if not faults and (lost := {"n_chains", "n_warmup", "n_updates", "steps"} - found.model_fields.keys()):
        faults.append(f"has no {', '.join(sorted(lost))}; stages that run chains of the route read it")
    if name not in registry.names("routes"):
        faults.append(f"no route is called {name!r}: nobody reads these options")


def _network(name: str, found: Any, faults: Faults, notes: Faults) -> None:
    import torch

    from ..gaussian.reference import GaussianReference
    from ..host import torch_defaults
    from ..networks.contract import BackwardTrace, ClosedFormTrace, Network

    with torch_defaults(), torch.random.fork_rng(devices=[]):
        try:
            network: Any = found(ndim=2)
        except TypeError as exc:
            notes.append(f"cannot be made from its defaults ({exc}); not tried")
            return
        if missing := missing_parts(network, Network):
            faults.append(f"has no {', '.join(missing)}; the contract latticediff.networks.contract.Network wants it")
            return
        action = Phi4.A(-1.0, 1.0)
        gaussian = GaussianReference(action, np.full(SHAPE, 0.4))
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        x, log_sigma = torch.as_tensor(_fields(action), dtype=torch.float32), torch.tensor([-0.5])
        residual, _ = network(gaussian, x, log_sigma)
        if residual.shape != x.shape or not bool(torch.isfinite(residual).all()):
            faults.append(f"R of {tuple(x.shape)} has shape {tuple(residual.shape)}; expected the same, and finite")
            return
        if getattr(network.describe(), "get", lambda _: None)("name") != name:
            faults.append(f"describe() does not give the name under which it is registered, {name!r}")
        if isinstance(network, ClosedFormTrace):
            _trace(network, gaussian, x, log_sigma, faults)
        elif not isinstance(network, BackwardTrace):
            notes.append("has neither closed_form_trace nor passes: it drives the SDE route only")


def _trace(network: Any, gaussian: Any, x: Any, log_sigma: Any, faults: Faults) -> None:
    """The closed form against the Jacobian of the network, field by field; C is the posterior covariance."""
    import torch

    _, trace = network(gaussian, x, log_sigma, trace=True)
    if trace is None or trace.shape != (len(x),):
        faults.append("with trace=True it gives no number for each field")
        return
    _, covariance = gaussian.posterior(gaussian.expand((2 * log_sigma).exp()))
    for row in range(len(x)):

        def residual(field: Any) -> Any:
            return network(gaussian, field[None], log_sigma)[0][0]

        jacobian = torch.autograd.functional.jacobian(residual, x[row])
        volume = gaussian.volume
        columns = jacobian.reshape(volume, *gaussian.shape)
        wanted = gaussian.filter(columns, covariance).reshape(volume, volume).diagonal().double().sum()
        if not torch.allclose(trace[row], wanted, rtol=1e-3, atol=1e-3):
            faults.append(
                f"its closed-form trace is {trace[row].item():.6g} where its derivatives give {wanted.item():.6g}"
            )
            return


def _observable(name: str, found: Any, faults: Faults, notes: Faults) -> None:
    entry = observable(name)
    if unknown := [need for need in entry.needs if need not in observable_names()]:
        faults.append(f"needs {', '.join(unknown)}, which no observable is called")
        return
    if entry.derived:
        return
    action = Phi4.A(-1.0, 1.0)
    phi = _fields(action, 6)
    series = measure_primary(phi, action, [name])[name]
    if not np.array_equal(measure_primary(phi[:2], action, [name])[name][0], series[0, :2]):
        faults.append("its values depend on the batch in which configurations are measured")


def _callable_of(least: int) -> Callable[[str, Any, Faults, Faults], None]:
    def look(name: str, found: Any, faults: Faults, notes: Faults) -> None:
        try:
            parameters = inspect.signature(found).parameters.values()
        except (TypeError, ValueError):
            return
        free = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)]
        needed = [p.name for p in free if p.default is p.empty and p.kind is not p.VAR_POSITIONAL]
        if not free or len(needed) > least:
            faults.append(
                f"takes ({', '.join(p.name for p in free)}); expected {least} argument and options by keyword"
            )

    return look


CHECKS: dict[str, Callable[[str, Any, Faults, Faults], None]] = {
    "actions": _action,
    "kernels": _kernel,
    "proposals": _named_proposal,
    "routes": _route,
    "route_options": _route_options,
    "networks": _network,
    "network_options": _options,
    "observables": _observable,
    "readers": _callable_of(1),
    "figures": _callable_of(1),
}
