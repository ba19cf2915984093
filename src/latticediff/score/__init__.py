"""Score of the noised ensemble: the free field by hand, a network for the rest (torch).

Rooms: `propagator` (measured two-point function, NumPy), `background` (everything diagonal in
momentum), `baseline` (implicit cubic), `embedding` (noise level and couplings for networks), `ridge`
(the default network), `deep` (others), `matching` (training objectives), `error` (score error by noise
level), `model` (what a file holds).
"""
