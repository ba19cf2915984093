"""The ridge network: one hidden layer whose divergence is a closed form (torch, fused Numba core).

Rooms: `base`, `network`, `conservative` (its score is a gradient), `vector` (fields of several components),
`normal_ordering`, `screening`, `fused` (training on the CPU), `tables` (fixed noise levels, for the compiled flow).
"""
