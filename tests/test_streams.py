"""Laws of the random streams."""

import json

import numpy as np
import pytest

from latticediff.errors import UserError
from latticediff.streams import Streams


def test_keys_are_functions_of_seed_path_and_purpose():
    assert (Streams(5).key("a") == Streams(5).key("a")).all()
    others = [Streams(5).key("b"), Streams(6).key("a"), Streams(5).child("x").key("a"), Streams(5, ("x", "y")).key("a")]
    for other in others:
        assert (Streams(5).key("a") != other).all()
    assert (Streams(5).child("x").child("y").key("a") == others[-1]).all()


def test_key_does_not_depend_on_what_was_drawn_before():
    streams = Streams(1)
    before = streams.key("a").copy()
    streams.generator("a").normal(size=100)
    assert (streams.key("a") == before).all()


def test_generator_is_blind_to_batch_splits():
    whole = Streams(2).generator("g").normal(size=10)
    streams = Streams(2)
    parts = np.concatenate([streams.generator("g").normal(size=k) for k in (3, 5, 2)])
    np.testing.assert_array_equal(whole, parts)


def test_restored_streams_continue_bit_for_bit():
    streams = Streams(3)
    streams.generator("g").random(7, dtype=np.float32)
    streams.child("c").generator("h").normal(size=3)
    saved = json.loads(json.dumps(streams.state()))
    ahead = streams.generator("g").normal(size=5), streams.child("c").generator("h").random(5)
    again = Streams.restore(saved)
    np.testing.assert_array_equal(again.generator("g").normal(size=5), ahead[0])
    np.testing.assert_array_equal(again.child("c").generator("h").random(5), ahead[1])


@pytest.mark.parametrize("seed", [-1, 1.5, True])
def test_impossible_seed_is_refused(seed):
    with pytest.raises(UserError, match="integer of at least 0"):
        Streams(seed)
