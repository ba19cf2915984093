"""The check of a user's own machine: what it compares, and that wrong results end it with one line."""

import json

import numpy as np
import pytest

from latticediff import HMC
from latticediff.cli import main
from latticediff.stages import selftest as room


def test_this_machine_passes(capsys):
    with pytest.raises(SystemExit) as done:
        main(["selftest", "--json"])
    assert not done.value.code
    told = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in told["rows"]] == list(room.CHECKS)
    assert all(row["passed"] and 0 <= row["off"] <= 1 for row in told["rows"])
    assert told["machine"] and set(told["versions"]) == {"latticediff", "Python", "NumPy", "Numba", "llvmlite", "torch"}


@pytest.mark.parametrize("change", [1e-9, np.nan])
def test_a_wrong_force_is_found(change, monkeypatch, capsys):
    """Trajectories that are off by 1e-9, a thousand times what is allowed, or NaN."""
    integrate = HMC.integrate

    def wrong(self, phi, momentum):
        end, back, energy = integrate(self, phi, momentum)
        return end + change, back, energy

    monkeypatch.setattr(HMC, "integrate", wrong)
    monkeypatch.setattr(room, "CHECKS", {"HMC trajectories against plain Python": room._trajectories})
    with pytest.raises(SystemExit) as done:
        main(["selftest"])
    assert done.value.code == 2
    out, err = capsys.readouterr()
    assert "FAILED" in out
    assert "wrong results on this machine: HMC trajectories against plain Python" in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("room_of_draws", ["normals", "uniform"])
def test_chains_follow_their_draws(room_of_draws, monkeypatch):
    """Momenta off by 1e-9, or coins and jitter by 1e-9, are seen in the fields of three updates."""
    assert room._chains() < 1
    right = getattr(room.reference, room_of_draws)
    monkeypatch.setattr(room.reference, room_of_draws, lambda *counter: right(*counter) * (1 + 1e-9))
    assert not room._chains() < 1


@pytest.mark.parametrize("name", ["fill_pairs", "fill_uniforms"])
def test_a_wrong_bit_of_a_uniform_is_found(name, monkeypatch):
    right = getattr(room, name)

    def wrong(first, *rest):
        right(first, *rest)
        first[3] = np.nextafter(first[3], 2)

    monkeypatch.setattr(room, name, wrong)
    assert room._generator() == np.inf
