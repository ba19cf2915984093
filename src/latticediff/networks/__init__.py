"""Networks that learn the residual of the score, a function of field and noise level (torch).

Rooms: `embedding` (noise level and couplings), `ridge` (one hidden layer with a closed-form divergence, the default),
`deep` (others).
"""
