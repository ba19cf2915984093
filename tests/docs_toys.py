"""What tests of the documentation share: whether a name that it prints is there."""

import importlib


def exists(dotted):
    """Whether ``latticediff.a.b`` leads to something, and no part of it is private."""
    found = importlib.import_module("latticediff")
    for part in dotted.split(".")[1:]:
        if part.startswith("_"):
            return False
        if not hasattr(found, part):
            try:
                importlib.import_module(f"{found.__name__}.{part}")
            except ImportError:
                return False
        found = getattr(found, part)
    return True
