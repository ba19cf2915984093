"""What is tried of a plug-in of each group; every fault is one line.

What a thing must keep once it is made, `latticediff.testing` knows. A class that cannot be made without arguments may
say how: an attribute ``example``, a description such as its ``from_description`` takes. Without it only the parts of
the contract are looked for.
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
from ..metropolis.contract import Proposal
from ..observables.table import observable, observable_names
from ..testing.actions import action_faults
from ..testing.faults import Faults, some_fields, some_shape
from ..testing.kernels import kernel_faults
from ..testing.observables import observable_faults
from ..testing.proposals import proposal_faults

__all__ = ["check"]

MODEL = "phi4-A-L8-score"  #: small, of all sites, with weights for both routes
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
    faults += action_faults(action)
    if not faults and action_from_description(action.describe()).describe() != action.describe():
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
    faults += kernel_faults(kernel, some_fields(action.ndim, 5))
    if getattr(kernel.describe(), "get", lambda _: None)("name") != name:
        faults.append(f"describe() gives the name {kernel.describe().get('name')!r}; it is registered as {name!r}")


def _proposal_faults(proposal: Any) -> Faults:
    if missing := missing_parts(proposal, Proposal):
        return [f"its proposal has no {', '.join(missing)}; the contract latticediff.metropolis.Proposal wants it"]
    return proposal_faults(proposal)


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
    faults += _proposal_faults(route.proposal(_model(), options, 256))


def _named_proposal(name: str, found: Any, faults: Faults, notes: Faults) -> None:
    if inspect.isclass(found) and _lacks(found, Proposal, faults):
        return
    try:
        proposal = found(_model())
    except (TypeError, UserError):
        notes.append("is not made of a model alone; latticediff.load(...).proposal(name, ...) gives it its options")
        return
    faults += _proposal_faults(proposal)


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
        gaussian = GaussianReference(action, np.full(some_shape(2), 0.4))
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        x, log_sigma = torch.as_tensor(some_fields(2), dtype=torch.float32), torch.tensor([-0.5])
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
    faults += observable_faults(entry, name=name)


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
    "layouts": _callable_of(1),
    "figures": _callable_of(1),
}
