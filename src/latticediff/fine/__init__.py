"""Half of the odd sites given the other half: a learned law of one site after another, and the theory of the rest.

Rooms: `geometry` (coarse and fine sites, who sees whom), `site` (tables of one site), `law` (the law in torch, to be
trained), `compiled` (the law that draws and weighs), `theory` (what a network of the coarse sites learns).
"""

from .compiled import CompiledLaw
from .geometry import coarse_shape
from .law import FineLaw
from .theory import CoarseSites

__all__ = ["CoarseSites", "CompiledLaw", "FineLaw", "coarse_shape"]
