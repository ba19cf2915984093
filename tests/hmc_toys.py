"""What every kernel of trajectories is held to."""

import numba
import numpy as np

from latticediff._kernels import threads
from latticediff.streams import Streams


def check_bits(kernel, phi, fewer, monkeypatch):
    """A chain's bits depend on no thread, no cut between blocks and no other chain; `fewer` are sizes of the batch."""
    monkeypatch.setattr(threads, "_SMALL", 0)  # threads even for this little work
    streams = Streams(8)
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        whole, block = kernel.advance(kernel.start(phi), streams, 11, 3)
        numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
        again, other = kernel.advance(kernel.start(phi), streams, 11, 3)
    finally:
        numba.set_num_threads(before)
    np.testing.assert_array_equal(whole.phi, again.phi)
    np.testing.assert_array_equal(block.phi, other.phi)
    state, kept, delta_h = kernel.start(phi), [], []
    for n in (1, 4, 0, 6):
        state, piece = kernel.advance(state, streams, n, 3)
        kept.append(piece.phi)
        delta_h.append(piece.info["delta_h"])
    np.testing.assert_array_equal(state.phi, whole.phi)
    np.testing.assert_array_equal(state.action, whole.action)
    np.testing.assert_array_equal(np.concatenate(kept), block.phi)
    np.testing.assert_array_equal(np.concatenate(delta_h), block.info["delta_h"])
    assert state.update == whole.update == 11
    for few in fewer:
        part, _ = kernel.advance(kernel.start(phi[:few]), streams, 11)
        np.testing.assert_array_equal(part.phi, whole.phi[:few])
