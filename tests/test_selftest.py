"""The check of a user's own machine: what it compares, and that wrong results end it with one line."""

import json

import numpy as np
import pytest

from latticediff import HMC
from latticediff.cli import main
from latticediff.pipeline import selftest as room


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
