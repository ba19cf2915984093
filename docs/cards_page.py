"""Writes docs/cards.md, the reference of all card keys, from the models that check a card.

Call it by ``python docs/cards_page.py``.

Names, values and defaults are those of the pydantic models; what a key means is the ``#:`` comment beside it; why the
demo has the value that it has is the comment of configs/demo.toml. A test compares the page with what this prints.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from pathlib import Path
from typing import Any

from latticediff.config import actions, learning, networks, sections
from latticediff.config.card import Card

HERE = Path(__file__).parent
HEAD = """# Every key of a run-card

This page is written by `docs/cards_page.py` from the models that check a card; do not edit it by hand.

A card is a TOML file. Only `[action]` and `[lattice]` must be there: `latticediff run` on a card with nothing but
`[run]`, `[action]` and `[lattice]` chooses everything else from a pilot run and says what; all other commands take the
defaults below. `--set section.key=value` overrides a key, `--dry-run` prints the card with all its values.

A dash as a default means that the key has to be given, *none* that it may be left out. The last column is what
[configs/demo.toml](../configs/demo.toml) says, and why; such numbers were chosen for phi^4 on 8x8.

"""
OTHERS = (
    ("[action] of name = polynomial", actions.PolynomialOptions),
    ("[action] of name = sine_gordon", actions.SineGordonOptions),
    ("[action] of name = modulated", actions.ModulatedOptions),
    ("[action] of name = external_field", actions.ExternalFieldOptions),
    ("[action] of name = random_mass", actions.RandomMassOptions),
    ("[action] of name = on", actions.ONOptions),
    ("[network] of name = ridge", learning.RidgeOptions),
    ("[network] of name = conservative_ridge", learning.SharedRidgeOptions),
    ("[network] of name = vector_ridge", networks.VectorRidgeOptions),
    ("[network] of name = gated_ridge", networks.GatedRidgeOptions),
    ("[network] of name = residual", networks.ResidualOptions),
    ("[network] of name = unet", networks.UnetOptions),
    ("an entry of training.ensembles", sections.EnsembleEntry),
)
CONVENTIONS = """## Couplings of phi^4, by convention

| convention | keys | action per site |
| --- | --- | --- |
"""


def meanings(model: type[Any]) -> dict[str, str]:
    """The ``#:`` comments of a model by key, those of its parents included."""
    found: dict[str, str] = {}
    for part in reversed([kind for kind in model.__mro__ if kind.__module__.startswith("latticediff.")]):
        above: list[str] = []
        for line in inspect.getsource(part).splitlines():
            if match := re.match(r"    #: (.*)", line):
                above.append(match[1])
            elif match := re.match(r"    (\w+): .*?(?:#: (.*))?$", line):
                if words := " ".join([*above, *([match[2]] if match[2] else [])]):
                    found[match[1]] = words
                above = []
    return found


def demo() -> dict[str, tuple[str, str]]:
    """``section.key`` -> (value, reason) of the demo's card."""
    found: dict[str, tuple[str, str]] = {}
    section = last = ""
    for line in (HERE.parent / "configs" / "demo.toml").read_text(encoding="utf-8").splitlines():
        if match := re.match(r"\[(.*)\]", line):
            section = match[1]
        elif match := re.match(r"(\w+) = (.*?)\s*(?:# (.*))?$", line):
            last = f"{section}.{match[1]}"
            found[last] = match[2], match[3] or ""
        elif (match := re.match(r"\s+# (.*)", line)) and last:
            found[last] = found[last][0], f"{found[last][1]} {match[1]}"
    return found


def values(annotation: Any, metadata: typing.Sequence[Any] = ()) -> str:
    """What a key takes, in words."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return values(inner[0], inner[1:])
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(values(part) for part in inner if part is not type(None))
    if origin is list:
        return f"list of {values(inner[0])}"
    if origin is dict:
        return "table"
    word = {int: "integer", float: "number", str: "text", bool: "true or false"}.get(annotation, "table")
    return f"{word}{bounds(metadata)}"


def bounds(metadata: typing.Sequence[Any]) -> str:
    """Limits of a number, in symbols; such that only keep a computer from overflowing are left out."""
    found = []
    for entry in metadata:
        for part in (entry, *getattr(entry, "metadata", ())):
            for sign, name in ((">=", "ge"), (">", "gt"), ("<=", "le"), ("<", "lt")):
                limit = getattr(part, name, None)
                if limit is not None and abs(limit) < 1e9:
                    found.append(f"{sign} {limit:g}")
    return f" {', '.join(dict.fromkeys(found))}" if found else ""


def default(field: Any) -> str:
    """A default as a card has it."""
    if field.is_required():
        return "–"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "none"
    said = str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')
    return f"`{said}`"


def first_paragraph(model: type[Any]) -> str:
    """The docstring of a model as one paragraph each, roles made plain."""
    told = inspect.cleandoc(model.__doc__ or "")
    return "\n\n".join(" ".join(part.split()) for part in told.split("\n\n")).replace("``", "`")


def table(model: type[Any], where: str, reasons: dict[str, tuple[str, str]]) -> str:
    """The keys of one section as a table; sections within it are left to themselves."""
    known, rows = meanings(model), []
    for key, field in model.model_fields.items():
        if inspect.isclass(field.annotation) and issubclass(field.annotation, sections.Section):
            continue
        value, reason = reasons.get(f"{where}.{key}", ("", ""))
        here = f"`{value}`: {reason}" if value and reason else f"`{value}`" if value else ""
        words = (text.replace("<", "&lt;") for text in (known.get(key, ""), here))  # <m> is no tag
        cells = f"`{key}`", values(field.annotation, field.metadata), default(field), *words
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    head = "| key | value | default | meaning | in the demo |\n| --- | --- | --- | --- | --- |\n"
    return head + "\n".join(rows) + "\n"


def page() -> str:
    """The page as text."""
    from latticediff.action.conventions import CONVENTIONS as KNOWN

    reasons, out = demo(), [HEAD]

    def section(title: str, model: type[Any], where: str) -> None:
        out.append(f"## {title}\n\n{first_paragraph(model)}\n\n")
        if any(not _is_section(field.annotation) for field in model.model_fields.values()):
            out.append(table(model, where, reasons) + "\n")
        for key, field in model.model_fields.items():
            if _is_section(field.annotation):
                section(f"[{where}.{key}]", field.annotation, f"{where}.{key}")

    for name, field in Card.model_fields.items():
        section(f"[{name}]", typing.cast("type[Any]", field.annotation), name)
    for title, model in OTHERS:
        section(title, model, {"ridge": "network"}.get(title.split()[-1], ""))
    rows = [
        f"| `{name}` | {', '.join(f'`{key}`' for key in form.couplings)} | `{form.formula}` |"
        for name, form in KNOWN.items()
    ]
    out.append(CONVENTIONS + "\n".join(rows) + "\n")
    return "".join(out)


def _is_section(annotation: Any) -> bool:
    return inspect.isclass(annotation) and issubclass(annotation, sections.Section)


if __name__ == "__main__":
    (HERE / "cards.md").write_text(page(), encoding="utf-8")
