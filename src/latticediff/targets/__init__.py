"""What a network is trained towards: targets with the right conditional mean, and their objectives (torch).

Rooms: `matching` (denoising losses), `control_variates` (targets of less noise; `vector_stein` of several components),
`objectives` (score-matching objectives and traces by name).
"""
