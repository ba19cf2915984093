"""Noise processes and how to run them backwards: probability-flow ODE and reverse SDE (torch).

Rooms: `process` (variance exploding and preserving), `ladder` (noise levels), `runge_kutta` (schemes), `flow` (the ODE
in whitened coordinates), `steps` (densities of reverse steps), `calibration` (what these and the ladder know of a
score), `reverse` (the path and its weight), `samplers` and `langevin` (dynamics without density).
"""
