"""Deep score networks beside the ridge network (torch).

Rooms: `convolution` (periodic, any lattice, with or without point symmetry), `network` (what all share: filters,
baseline, embedding), `divergence` (exact traces by backward passes), `residual` and `unet` (the networks).
They learn what one hidden layer cannot, for a divergence that is dearer by orders of magnitude: meant for
the reverse SDE, which needs none, for small lattices, and for measuring what a network could learn at best.
"""
