"""Reading a run-card: parse, override, check.

A card is refused with one line: the key in question, what it was, what is wanted, and for a
misspelt key the nearest right one.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from .. import registry
from ..errors import CardError, FileError, UserError
from ..types import PathLikeStr
from ..untrusted import parse_toml, read_text, status
from . import sections
from .card import Card
from .overrides import apply_overrides
from .problems import first_problem

__all__ = ["load_card", "parse_card"]

_Model = TypeVar("_Model", bound=BaseModel)

_DEPTH = 16  # levels of a card; its own keys have four
_BITS = 8192  # beyond 4300 digits Python writes no integer, not even into a message

HDF5 = b"\x89HDF\r\n\x1a\n"  #: how HDF5 files begin


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
        if Path(path).is_file():
            with open(path, "rb") as file:
                if file.read(len(HDF5)) == HDF5:
                    raise FileError(
                        f"{path} is an HDF5 file, perhaps an ensemble; expected a run-card here, a TOML file such as"
                        " configs/demo.toml"
                    ) from None
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
    _with_network(data)
    try:
        card = _with_action(_checked(Card, data))
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


def _with_network(data: dict[str, Any]) -> None:
    """Name the network of a theory that wants another one than most, unless the card names one."""
    action, network = data.get("action"), data.get("network", {})
    if not isinstance(action, dict) or not isinstance(network, dict) or not {"components", "of"} & set(action):
        return
    if action.get("name") == "external_field" and isinstance(action["of"], dict):
        action = action["of"]  # a field has no wishes of its own
    if "name" in network or action.get("name") not in registry.names("actions"):
        return
    wanted = getattr(registry.load("actions", action["name"]), "network", None)
    if wanted is not None:
        data["network"] = {"name": wanted, **network}


def _with_action(card: Card) -> Card:
    """The card with the keys of its action checked by the action's own options, if it has any."""
    name, given = card.action.name, card.action.options
    if name not in registry.names("action_options"):
        return card
    if card.action.convention is not None:
        given["convention"] = card.action.convention  # a key like any other, and unknown to most
    options = _checked(_options_model("action_options", name), given, "action")
    section = sections.ActionSection(name=name, **options.model_dump(exclude_none=True))
    return card.model_copy(update={"action": section})


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
        if name in registry.names("proposals") and name not in registry.names("routes"):
            checked[name] = _checked(sections.ProposalSection, data, f"sampling.{name}")
            continue
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
        raise CardError(first_problem(exc, model, section)) from None


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
