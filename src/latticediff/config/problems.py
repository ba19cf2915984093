"""What is wrong with a card, in one line: the key in question, what it was, and what is wanted."""

from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from .. import registry
from .card import Card, short

__all__ = ["first_problem"]

_TYPES = ("float", "int", "str", "bool", "constrained-float", "constrained-int")  # as pydantic names members of a union
#: what to write, for keys whose form is not obvious
_EXAMPLES = {
    "lattice.shape": "shape = [16, 16], one extent for each dimension",
    "sampling.beside": 'beside = ["phi4-A-L8-fast"], a list of models',
}


def first_problem(exc: ValidationError, root: type[BaseModel], section: str | None) -> str:
    """One line for the first problem, misspelt keys first since they explain the others (a key that seems missing)."""
    problems = exc.errors(include_url=False)
    for problem in problems:
        if problem["type"] == "extra_forbidden":
            return _unknown_key(problem["loc"], root, section)
    problem = problems[0]
    # a value that may be of several types has the type that was tried for a last part: no key
    location = [part for part in problem["loc"] if not (isinstance(part, str) and part in _TYPES)]
    path = [*([section] if section else []), *(str(part) for part in location)]
    if not path:  # a rule about the whole card
        return problem["msg"].removeprefix("Value error, ")
    where = ".".join(path)
    if problem["type"] == "missing":
        return f"{where} is missing" if len(path) > 1 else f"section [{where}] is missing"
    value, message = problem["input"], problem["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if problem["type"] == "model_type":
        return f"{where} = {short.repr(value)}; expected a section [{where}] with keys of its own"
    if isinstance(value, dict):  # a rule about a whole section
        return f"[{where}] {message}"
    example = f"; write e.g. {_EXAMPLES[where]}" if where in _EXAMPLES else ""
    return f"{where} = {short.repr(value)}: {message}{example}"


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
