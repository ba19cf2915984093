"""A default that a help text or a docstring states is the one that the code takes."""

import importlib
import inspect
import pkgutil
import re

import numpy as np
import typer

import latticediff
from latticediff.config.sections import OdeSection, SdeSection
from latticediff.defaults import SDE_STEPS
from latticediff.errors import UserError
from latticediff.proposal import SdeProposal

NUMBER = r"(?<![\w.])(\d[\d_]*(?:\.\d+)?(?:e-?\d+)?)"
STATED = re.compile(rf"(?:\bdefault(?:s to|:| is)? {NUMBER})|(?:(?:^|, |; |\s){NUMBER} by default)", re.IGNORECASE)

# where the signature says None, or where a number follows from others
KNOWN = {
    ("free-energy", "steps"): SDE_STEPS,
    ("reweight", "steps"): SDE_STEPS,
    ("diagnose", "steps"): SDE_STEPS,
    ("line", "n"): OdeSection().n_chains * OdeSection().n_updates,
    ("SiteStep", "response"): 1,  # None: no array of ones is made
}
IN_BRACKETS = re.compile(rf"{NUMBER} \((sde)\)")


def stated_numbers(text):
    found = [float(a or b) for a, b in STATED.findall(text)]
    if "default" in text.lower():
        found += [float(number) for number, _ in IN_BRACKETS.findall(text)]
    return found


def functions():
    """Everything callable that this package defines, with its parameters' paragraphs."""
    for info in pkgutil.walk_packages(latticediff.__path__, "latticediff."):
        if info.name.endswith("__main__"):
            continue
        try:
            module = importlib.import_module(info.name)
        except UserError as exc:
            assert "latticediff[" in str(exc)  # an extra that is not installed
            continue
        for thing in [o for o in vars(module).values() if getattr(o, "__module__", None) == info.name]:
            members = [m for m in vars(thing).values() if inspect.isfunction(m)] if inspect.isclass(thing) else []
            for item in (thing, *members):
                if callable(item) and item.__doc__:
                    yield item


def paragraphs(text):
    """``(names, text)`` of each entry of a NumPy section of parameters."""
    section = re.search(r"\nParameters\n-+\n(.*?)(?=\n\w+\n-{3,}|\Z)", inspect.cleandoc(text), re.DOTALL)
    for entry in re.split(r"\n(?=\S)", section.group(1)) if section else ():
        head, _, body = entry.partition("\n")
        yield [name.strip() for name in head.split(" : ")[0].split(",")], head + " " + body


def test_numbers_in_docstrings_are_those_of_the_signature():
    seen = 0
    for item in functions():
        try:
            parameters = inspect.signature(item).parameters
        except (TypeError, ValueError):
            continue
        for names, text in paragraphs(item.__doc__):
            for number in stated_numbers(text):
                default = KNOWN.get((item.__name__, names[0]))
                if default is None:
                    default = parameters[names[0]].default
                assert default == number, f"{item.__module__}.{item.__qualname__}: {names[0]} says {number}"
                seen += 1
    assert seen  # the search finds some


def test_numbers_in_help_texts_are_those_that_the_commands_take():
    from latticediff.cli.app import app

    seen = 0
    for name, command in typer.main.get_command(app).commands.items():
        for option in command.params:
            for number in stated_numbers(option.help or ""):
                default = KNOWN.get((name, option.name), option.default)
                assert default == number, f"{name} --{option.name} says {number}, takes {default}"
                seen += 1
    assert seen >= 4


def test_steps_of_the_sde_are_said_once():
    assert inspect.signature(SdeProposal).parameters["steps"].default == SDE_STEPS == SdeSection().steps
    assert OdeSection().n_chains * OdeSection().n_updates == SdeSection().n_chains * SdeSection().n_updates


def test_the_search_sees_a_wrong_number():
    assert stated_numbers("Integration steps; default: the model's own (ode), 60 (sde).") == [60]
    assert stated_numbers("4 by default: at most 8") == [4] and stated_numbers("x; default 15000.") == [15000]
    assert stated_numbers("default about 32 MB") == []
    assert np.isclose(stated_numbers("0.125 by default"), 0.125).all()
