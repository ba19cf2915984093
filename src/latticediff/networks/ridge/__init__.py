"""The ridge network: one hidden layer whose divergence is a closed form (torch, fused Numba core).

Rooms: `network`, `conservative` (its score is a gradient), `normal_ordering`, `screening`, `fused` (training on
the CPU), `tables` (fixed noise levels, for the compiled flow).
"""
