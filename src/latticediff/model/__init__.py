"""A trained score model: what it holds, its file, its couplings, and the models that come with the package.

Rooms: `score_model` (the model and its folder), `couplings` (one network for a line of couplings), `folding`
(symmetric tables on file), `score_error` (error by noise level), `shipped`.
"""
