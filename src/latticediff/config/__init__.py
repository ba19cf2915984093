"""Run-cards: TOML files that say everything about a run, checked before anything starts.

`sections` holds one pydantic model per section, `card` the whole card and its writing, `reading` and
`overrides` how a file becomes one, `problems` what is wrong with it. A card is data; the rooms that
do the work get plain numbers and never see it.
"""

from .card import Card
from .reading import load_card, parse_card

__all__ = ["Card", "load_card", "parse_card"]
