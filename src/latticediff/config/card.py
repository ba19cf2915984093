"""The run-card: read, override, check, write.

A card is refused with one line: the key in question, what it was, what is wanted, and for a
misspelt key the nearest right one. `Card.to_toml` writes the effective card, defaults included;
reading it back gives an equal card.
"""

import hashlib
import inspect
import json
import reprlib
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Annotated, Any, Self, TypeVar, get_args

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .. import registry
from ..action import Action
from ..action.phi4 import CONVENTIONS
from ..contracts import require
from ..errors import CardError, FileError, UserError
from ..lattice import MOST_SITES, volume
from ..types import Description, PathLikeStr, Shape
from ..untrusted import parse_toml, read_text, status
from . import sections
from .overrides import apply_overrides

__all__ = ["Card", "load_card", "parse_card"]

_Model = TypeVar("_Model", bound=BaseModel)

_DEPTH = 16  # levels of a card; its own keys have four
_BITS = 8192  # beyond 4300 digits Python writes no integer, not even into a message

# values in messages: a number may have 400 digits, a table a thousand keys
_short = reprlib.Repr()
_short.maxstring = _short.maxlong = _short.maxother = 80


class Card(BaseModel):
    """A checked run-card; see `sections` for the keys."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    run: sections.RunSection = sections.RunSection()
    action: sections.ActionSection
    lattice: sections.LatticeSection
    hmc: sections.HMCSection = sections.HMCSection()
    gate: sections.GateSection = sections.GateSection()
    network: Annotated[sections.NetworkSection, Field(default_factory=sections.NetworkSection)]
    training: sections.TrainingSection = sections.TrainingSection()
    finetune: sections.FinetuneSection = sections.FinetuneSection()
    sampling: sections.SamplingSection = sections.SamplingSection()
    analysis: sections.AnalysisSection = sections.AnalysisSection()

    @model_validator(mode="after")
    def _fields_can_be_addressed(self) -> Self:
        chains = {"hmc.n_chains": self.hmc.n_chains}
        chains |= {f"sampling.{route}.n_chains": getattr(self.sampling, route).n_chains for route in ("ode", "sde")}
        for key, n_chains in chains.items():
            if n_chains * volume(self.shape) >= MOST_SITES:
                lattice = "x".join(map(str, self.shape))
                raise ValueError(
                    f"{key} = {n_chains} fields of {lattice} sites are more than an array holds; take fewer or smaller"
                )
        return self

    @model_validator(mode="after")
    def _a_baseline_of_trajectories_alone(self) -> Self:
        if self.sampling.hmc.search and self.hmc.cluster is not None:
            raise ValueError("sampling.hmc.search looks at trajectories alone; leave it out with hmc.cluster")
        return self

    @property
    def shape(self) -> Shape:
        """Lattice extents."""
        return tuple(self.lattice.shape)

    def theory(self) -> Action:
        """The `Action` that the card names, in as many dimensions as the lattice has.

        Raises
        ------
        CardError
            Unknown action, convention or coupling, or couplings whose integral diverges.
        """
        options, ndim = self.action.options, len(self.shape)
        try:
            cls: Any = registry.load("actions", self.action.name)
            if self.action.name == "phi4":
                _check_couplings(self.action.convention, options)
                return cls(self.action.convention, options, ndim)
            if self.action.convention is not None:
                options["convention"] = self.action.convention
            inspect.signature(cls).bind(**options, ndim=ndim)
            action = cls(**options, ndim=ndim)
            require(action, Action, f"action {self.action.name!r}")
            return action
        except UserError as exc:
            raise CardError(f"[action] {exc}") from None
        except TypeError as exc:  # from bind: a missing or unknown argument of the user's own action
            raise CardError(f"[action] {self.action.name}: {exc}") from None

    def to_dict(self) -> dict[str, Any]:
        """Every key with its effective value, JSON-able; keys without a value are left out."""
        return self.model_dump(exclude_none=True)

    def to_toml(self) -> str:
        """The effective card as TOML text; `parse_card` of it is an equal card."""
        return tomli_w.dumps(self.to_dict())

    def digest(self) -> str:
        """Hex SHA-256 of the effective card: the identity of a run."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def difference(self, other: Mapping[str, Any], parts: Sequence[str] = (), ignore: Container[str] = ()) -> str:
        """The first key in which this card and the dict `other` differ, in words; "" if there is none.

        Parameters
        ----------
        other : dict
            As from `to_dict`.
        parts : sequence of str
            Only keys that are, or lie in, one of these; all by default.
        ignore : sequence of str
            Keys that may differ.
        """
        ours, theirs = _flat(self.to_dict()), _flat(other)
        for key in sorted({*ours, *theirs}):
            wanted = not parts or any(key == part or key.startswith(f"{part}.") for part in parts)
            if wanted and key not in ignore and ours.get(key) != theirs.get(key):
                return f"{key} = {theirs.get(key)!r} there, {ours.get(key)!r} here"
        return ""


def load_card(path: PathLikeStr, overrides: Sequence[str] = (), say: Callable[[str], object] | None = None) -> Card:
    """Read a run-card, apply overrides and check everything that can be checked without running.

    Parameters
    ----------
    path : path-like
        TOML file.
    overrides : sequence of str
        ``"section.key=value"``, the value as in TOML; a bare word is a string. ``"section={...}"`` replaces a whole
        section. See `latticediff.config.overrides`.
    say : callable, optional
        Gets one line that says which couplings were dropped because an override changed the convention.

    Returns
    -------
    Card

    Raises
    ------
    FileError
        The file is missing, cannot be read, or is no UTF-8 text.
    CardError
        No TOML, an unknown key (with the nearest right one), or an impossible value.
    """
    if status(path) is None:
        raise FileError(f"no run-card {path}; give the path of a TOML file such as configs/demo.toml")
    try:
        text = read_text(path, "a TOML file")
    except FileError as exc:
        raise FileError(f"cannot read run-card {exc}") from None
    return parse_card(text, overrides, source=str(path), say=say)


def parse_card(
    text: str, overrides: Sequence[str] = (), source: str = "card", say: Callable[[str], object] | None = None
) -> Card:
    """Read a card from TOML text; otherwise like `load_card`.

    Parameters
    ----------
    text : str
    overrides, say
        See `load_card`.
    source : str
        Name of the text in messages.

    Returns
    -------
    Card

    Raises
    ------
    CardError
        No TOML, an unknown key (with the nearest right one), or an impossible value.
    """
    try:
        data = parse_toml(text, source)
    except FileError as exc:
        raise CardError(str(exc)) from None
    _check_tree(data, source)
    data = apply_overrides(data, overrides, say)
    _check_tree(data, source)
    try:
        card = _checked(Card, data)
        options_of = _network_options(card.network.name)
        if options_of is not None:
            options = _checked(options_of, card.network.options, "network")
            network = sections.NetworkSection(name=card.network.name, **options.model_dump())
            card = card.model_copy(update={"network": network})
        card = _with_routes(card)
        card.theory()
    except CardError as exc:
        raise CardError(f"{source}: {exc}") from None
    return card


def _network_options(name: str) -> type[BaseModel] | None:
    """The pydantic model of a network's options; None where the network checks them itself when it is built."""
    try:
        registry.require("networks", name)
    except UserError as exc:
        raise CardError(f"[network] {exc}") from None
    if name in registry.names("network_options"):
        return _options_model("network_options", name)
    return sections.NETWORK_OPTIONS.get(name)


def _with_routes(card: Card) -> Card:
    """The card with the sections of installed routes checked by their own options; any other key is unknown."""
    checked: dict[str, BaseModel] = {}
    for name, data in (card.sampling.model_extra or {}).items():
        if name not in registry.names("route_options"):
            own = type(card.sampling).model_fields
            hint = registry.nearest(name, [*own, *registry.names("route_options")])
            raise CardError(f"[sampling] has no key {name!r}{hint or '; it has ' + ', '.join(own)}")
        checked[name] = _checked(_options_model("route_options", name), data, f"sampling.{name}")
    sampling = card.sampling.model_copy(update=checked)
    return card.model_copy(update={"sampling": sampling}) if checked else card


def _options_model(group: str, name: str) -> type[BaseModel]:
    """The installed pydantic model of a section, refused if it is none."""
    try:
        model = registry.load(group, name)
    except UserError as exc:
        raise CardError(str(exc)) from None
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        what = group.replace("_", " ")
        raise CardError(
            f"{what} {name!r} ({model!r}) is no pydantic model; derive it from latticediff.config.sections.Section"
        )
    return model


def _checked(model: type[_Model], data: Any, section: str | None = None) -> _Model:
    """`data` as an instance of `model`, or `CardError` in one line; `section` is where `model` stands in a card."""
    try:
        return model.model_validate(data)
    except ValidationError as exc:
        raise CardError(_first_problem(exc, model, section)) from None


def _check_tree(data: dict[str, Any], source: str) -> None:
    """Refuse nesting too deep, and integers too large, for Python to print them; does not recurse itself."""
    level: list[Any] = [data]
    depth = 0
    while level:
        if depth > _DEPTH:
            raise CardError(f"{source} nests tables and lists more than {_DEPTH} levels deep; no key of a card does")
        entries = [entry for node in level for entry in (node.values() if isinstance(node, dict) else node)]
        if any(isinstance(entry, int) and entry.bit_length() > _BITS for entry in entries):
            raise CardError(f"{source} has an integer of more than {_BITS} bits; no key of a card takes one")
        level = [entry for entry in entries if isinstance(entry, dict | list)]
        depth += 1


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested dict with dotted keys: ``{"hmc": {"thin": 1}}`` as ``{"hmc.thin": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _check_couplings(convention: str | None, options: Description) -> None:
    """Name the nearest coupling before the action itself lists what it wants."""
    if convention not in CONVENTIONS:
        return  # the action says so
    wanted = CONVENTIONS[convention].couplings
    for key in options:
        if key not in wanted:
            hint = registry.nearest(key, [*wanted, "name", "convention"])
            raise UserError(f"has no key {key!r}{hint}; convention {convention} has {', '.join(wanted)}")
    for key in wanted:
        if key not in options:
            raise UserError(f"lacks {key}; convention {convention} has {', '.join(wanted)}")
        if isinstance(options[key], bool) or not isinstance(options[key], int | float):
            raise UserError(f"{key} = {_short.repr(options[key])}; expected a number")


def _first_problem(exc: ValidationError, root: type[BaseModel], section: str | None) -> str:
    """One line for the first problem, misspelt keys first since they explain the others (a key that seems missing)."""
    problems = exc.errors(include_url=False)
    for problem in problems:
        if problem["type"] == "extra_forbidden":
            return _unknown_key(problem["loc"], root, section)
    problem = problems[0]
    path = [*([section] if section else []), *(str(part) for part in problem["loc"])]
    if not path:  # a rule about the whole card
        return problem["msg"].removeprefix("Value error, ")
    where = ".".join(path)
    if problem["type"] == "missing":
        return f"{where} is missing" if len(path) > 1 else f"section [{where}] is missing"
    value, message = problem["input"], problem["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if problem["type"] == "model_type":
        return f"{where} = {_short.repr(value)}; expected a section [{where}] with keys of its own"
    if isinstance(value, dict):  # a rule about a whole section
        return f"[{where}] {message}"
    return f"{where} = {_short.repr(value)}: {message}"


def _unknown_key(location: Sequence[int | str], root: type[BaseModel], section: str | None) -> str:
    """``[hmc] has no key 'n_chain' (did you mean 'n_chains'?)``, looking in the other sections too."""
    *parents, key = location
    model: Any = root
    for part in parents:
        # a number is an entry of a list of tables, such as [[training.ensembles]]
        model = get_args(model)[0] if isinstance(part, int) else model.model_fields[part].annotation
    known = model.model_fields
    hint = registry.nearest(key, known)
    if model is Card:
        return f"there is no section [{key}]{hint}"
    where = ".".join([*([section] if section else []), *(part for part in parents if isinstance(part, str))])
    kinds: dict[str, Any] = {name: field.annotation for name, field in Card.model_fields.items()}
    elsewhere = [name for name, kind in kinds.items() if key in kind.model_fields]
    if elsewhere and elsewhere != [where]:
        hint = f" (it belongs in [{elsewhere[0]}])"
    return f"[{where}] has no key {key!r}{hint or '; it has ' + ', '.join(known)}"
