"""A study of critical slowing down: what every sampler costs for an independent value, at several sizes or couplings.

Rooms: `card` (what a study asks for), `plan` (its cells), `samplers` (what can be compared), `models` (which model is
of a theory), `cell` (one theory, lattice and sampler, and its result on disk), `kernels` (the tuned chain of a cell),
`chains` (running it until tau_int is known), `timing` (all samplers of one theory in turn), `films` (from noise to
field), `fits` (exponents), `costs` (what an independent value costs, and when training is paid back), `verdict`,
`gathered` (all of it as one document, ``study.json``).
"""
