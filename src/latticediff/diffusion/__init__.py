"""Noise processes and how to run them backwards: probability-flow ODE and reverse SDE (torch).

Rooms: `ladder` (noise levels), `runge_kutta` (schemes), `flow` (the ODE in whitened coordinates),
`reverse` (Gaussian reverse steps and their path weight), `langevin` (annealed Langevin, without density).
"""
