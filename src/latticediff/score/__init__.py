"""Score of the noised ensemble: the free field by hand, a network for the rest (torch).

Rooms: `propagator` (measured two-point function, NumPy), `background` (everything diagonal in
momentum), `baseline` (implicit cubic), `ridge` (the default network), `matching` (training
objectives), `model` (what a file holds).
"""
