"""A SLURM of four virtual nodes, for as long as the tests that ask for it run."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("cluster.sh")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")


class Cluster:
    """The tests' own SLURM; `environment` makes its programs, and ours, talk to it."""

    def __init__(self, folder):
        self.folder = folder
        self.environment = {
            **os.environ,
            "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
            "SLURM_CONF": str(folder / "slurm.conf"),
            "OMP_NUM_THREADS": "1",
        }

    def manage(self, command, *more):
        done = subprocess.run(
            ["bash", SCRIPT, command, self.folder, *more],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr

    def ask(self, *command, check=True):
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    if missing := [name for name in PROGRAMS if shutil.which(name, path=path) is None]:
        pytest.skip(f"no SLURM here: {', '.join(missing)} not found; tests/slurm/install.sh installs it")
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        made.manage("up")
        yield made
    finally:
        made.manage("down")
