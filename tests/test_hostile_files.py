"""Files of others: whatever they hold, every command ends with one line, code 2, at once, and reads no other file."""

import os
import re
import shutil
import time

import h5py
import numpy as np
import pytest
import tomli_w
from ensemble_toys import make, start
from hostile_toys import REFUSED, SECRET

from latticediff.cli import main
from latticediff.untrusted import printable

SHAPE = (8, 8)
MODEL = "phi4-A-L8"


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """A folder with a sound file of the shipped model's theory, a card, and what a hostile file would like to read."""
    folder = tmp_path_factory.mktemp("hostile")
    make(folder / "sound.h5", n_updates=20, start=lambda: start(shape=SHAPE))
    card = {"run": {"seed": 3}, "action": {"convention": "A", "m2": -4.0, "lam": 6.008}, "lattice": {"shape": [8, 8]}}
    (folder / "card.toml").write_text(tomli_w.dumps(card))
    shutil.copy(folder / "sound.h5", folder / "secret.h5")
    with h5py.File(folder / "secret.h5", "r+") as file:
        file["phi"] = np.full(file["configurations/phi"].shape, SECRET)
    (folder / "secret.raw").write_bytes(np.full(10_000, SECRET).tobytes())
    return folder


def commands(path, out):
    """Command lines that read the file `path`; those that write, write to the folder `out`."""
    card = path.parent / "card.toml"
    model = ("--model", MODEL, "--route", "ode", "--ensemble", path)
    start_from = ("--start", path, "--set", "hmc.n_chains=2", "--set", "hmc.n_warmup=2", "--set", "hmc.n_updates=4")
    return {
        "measure": ("measure", path),
        "info": ("info", path),
        "verify": ("verify", path),
        "weigh": ("weigh", card, *model, "--out", out / "w.npz", "--quiet"),
        "export npy": ("export", path, "--out", out / "a.npy"),
        "export npz": ("export", path, "--out", out / "a.npz"),
        "convert": (
            "convert",
            path,
            "--card",
            card,
            "--no-check",
            "--dataset",
            "configurations/phi",
            "--out",
            out / "c",
        ),
        "thin": ("thin", path, "--every", 2, "--out", out / "t.h5"),
        "cut": ("cut", path, "--start", 5, "--out", out / "u.h5"),
        "merge": ("merge", path.parent / "sound.h5", path, "--out", out / "m.h5"),
        "split": ("split", path, "--pieces", 2, "--out", out / "s.h5"),
        "repair": ("repair", path, "--out", out / "r.h5"),
        "migrate": ("migrate", path, "--out", out / "g.h5"),
        "compare": ("compare", path.parent / "sound.h5", path, "--out", out / "page", "--quiet"),
        "train": ("train", card, "--ensemble", path, "--out", out / "model", "--quiet"),
        "finetune": ("finetune", card, "--model", MODEL, "--ensemble", path, "--out", out / "model", "--quiet"),
        "generate --start": ("generate", card, "--out", out / "n.h5", "--quiet", *start_from),
        "generate --more": ("generate", card, "--out", path, "--more", 4, "--quiet"),
        "reweight": ("reweight", path, "--to", "lam=6.1", "--quiet"),
        "free-energy": ("free-energy", "--model", MODEL, "--ensemble", path, "--n", 8, "--quiet"),
        "diagnose": ("diagnose", MODEL, "--ensemble", path, "--n", 8, "--levels", 0, "--out", out / "d", "--quiet"),
    }


# one structure that every command must meet, for each way in which it may reach a file
TYPICAL = ("link_to_another_file", "external_storage", "rows_2_to_the_40", "missing configurations/phi")
#: the others, and for these kinds it is their first look at the file that must refuse it
QUICK = ("measure", "info", "verify", "export npy", "cut", "repair", "merge", "generate --more")
# the end of a chain: who does not go on with it has no need to look
END = re.compile(r"rng|state|checksums|external_text")
NEEDS_END = ("verify", "cut", "generate --more")


def run(arguments, capsys, seconds=20.0):
    """Exit code and standard error of a command line in this process."""
    began = time.monotonic()
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert time.monotonic() - began < seconds, arguments
    return ended.value.code or 0, capsys.readouterr().err


def check_refusal(name, arguments, capsys, out):
    code, error = run(arguments, capsys)
    assert code == 2 and error.startswith("error: ") and error.count("\n") == 1, (name, code, error)
    assert len(error) < 1500 and printable(error.strip()) == error.strip()
    assert not [path for path in out.rglob("*") if path.is_file()], name  # nothing half-written stays
    return error


@pytest.fixture
def beside(tmp_path, room):
    """What a hostile file names, and a folder for what the commands write."""
    for name in ("card.toml", "sound.h5", "secret.h5", "secret.raw"):
        os.link(room / name, tmp_path / name)
    (tmp_path / "out").mkdir()
    return tmp_path


def check_all(mutation, names, beside, capsys):
    path, out = beside / "x.h5", beside / "out"
    shutil.copy(beside / "sound.h5", path)
    with h5py.File(path, "r+") as file:
        REFUSED[mutation](file)
    for name, arguments in commands(path, out).items():
        if name not in names:
            continue
        if not END.search(mutation) or name in NEEDS_END:
            check_refusal((mutation, name), arguments, capsys, out)
            continue
        code, error = run(arguments, capsys)
        assert code in (0, 2) and re.fullmatch(r"((note|error): .*\n)*", error), (name, code, error)
        assert np.float64(SECRET).tobytes() not in b"".join(f.read_bytes() for f in out.rglob("*") if f.is_file())
        shutil.rmtree(out)
        out.mkdir()


@pytest.mark.parametrize("mutation", REFUSED)
def test_no_reader_takes_a_hostile_structure(beside, capsys, mutation):
    number = list(REFUSED).index(mutation)
    check_all(mutation, ("verify", QUICK[number % len(QUICK)]), beside, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("mutation", REFUSED)
def test_none_of_the_quick_readers_does(beside, capsys, mutation):
    check_all(mutation, QUICK, beside, capsys)


@pytest.mark.parametrize("mutation", TYPICAL)
def test_no_command_at_all_does(beside, capsys, mutation):
    check_all(mutation, commands(beside, beside), beside, capsys)
