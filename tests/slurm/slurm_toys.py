"""A small card, its plan in a folder, and waiting for what becomes of it."""

import time

from warm import latticediff

from latticediff.config import parse_card
from latticediff.slurm import make_plan, write_plan

CARD = """
[run]
seed = 11
[action]
convention = "A"
m2 = -4.0
lam = 6.008
[lattice]
shape = [8, 8]
[hmc]
n_chains = 4
n_warmup = 100
n_updates = {n_updates}
thin = {thin}
[gate]
enforce = false
[network]
features = 2
hidden = 4
[training]
steps = 40
batch = 16
device = "cpu"
[sampling]
device = "cpu"
n_forward = 16
[sampling.ode]
n_chains = 4
n_updates = 6
steps = 4
"""
SHORT = CARD.format(n_updates=400, thin=20)
LONG = CARD.format(n_updates=1_000_000, thin=10_000)  # some seconds


def planned(folder, n_members=3, text=SHORT, **options):
    """A plan of the card in a folder."""
    card = parse_card(text)
    plan = make_plan(card, n_members, directory=folder.parent, **options)
    write_plan(plan, card, folder)
    return plan


def command(*arguments, environment=None, cwd=None, check=True):
    """Run `latticediff slurm`; returns what it prints."""
    done = latticediff("slurm", *arguments, cwd=cwd, **(environment or {}))
    assert not check or done.returncode == 0, done.stderr
    return done.stdout if check else done


def wait_until(true, seconds=90, every=0.2):
    """Wait until `true()` is; returns its value."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, f"waited {seconds} s"
        time.sleep(every)
    return found
