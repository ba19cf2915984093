"""The Gaussian reference of a theory: everything that is diagonal in momentum, put in by hand (torch).

Rooms: `propagator` (the measured two-point function, NumPy), `filters` (the real Fourier basis), `reference`
(posterior, residual force),
`baseline` (the local force averaged over the posterior; `vector_baseline` of several components), `vacua` (two
Gaussians of a broken phase).
"""
