"""The critical point of two-dimensional phi^4 by finite-size scaling: what is asked for, the fields, and what they say.

Rooms: `card` (what is asked for), `models` (the run-card of the model of each size), `series` (draws and chains,
measured and kept), `meeting` (where sizes cross), `results` (kappa_c and exponents), `continuum` (the coupling in units
of the renormalised mass), `approach` (its limit as g tends to 0), `costs`.
"""
