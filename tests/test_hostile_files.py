"""Files of others: whatever they hold, every command ends with one line, code 2, at once, and reads no other file."""

import json
import os
import re
import shutil
import socket
import time
import tomllib
import zipfile
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
import tomli_w
import typer
from ensemble_toys import ACTION, reseal
from hostile_toys import REFUSED, SECRET, unseal

from latticediff.cli import app as app_module
from latticediff.cli import main
from latticediff.config import load_card
from latticediff.ensemble import convert, save_ensemble, verify
from latticediff.ensemble.readers import _require_room, read_arrays
from latticediff.errors import FileError, UserError
from latticediff.model.shipped import model_folder
from latticediff.stages.generate import generate
from latticediff.untrusted import printable

MODEL = "phi4-A-L8"
CARD = {
    "run": {"seed": 3},
    "action": {"convention": "A", "m2": -4.0, "lam": 6.008},
    "lattice": {"shape": [8, 8]},
    "hmc": {"n_chains": 3, "n_warmup": 2, "n_updates": 20, "thin": 5},
    "gate": {"enforce": False},
}


@pytest.fixture(scope="module", autouse=True)
def commands_built_once():
    """Typer builds every subcommand anew at each call, which takes ten times as long as a refusal."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app_module, "app", typer.main.get_command(app_module.app))
        yield


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """A folder with a sound file of the shipped model's theory, a card, and what a hostile file would like to read."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "card.toml").write_text(tomli_w.dumps(CARD))
    for name, seed in (("sound.h5", 3), ("other.h5", 4)):
        generate(load_card(folder / "card.toml", [f"run.seed={seed}"]), folder / name)
    shutil.copy(folder / "sound.h5", folder / "secret.h5")
    with h5py.File(folder / "secret.h5", "r+") as file:
        file["phi"] = np.full(file["configurations/phi"].shape, SECRET)
    (folder / "secret.raw").write_bytes(np.full(10_000, SECRET).tobytes())
    return folder


def commands(path, out):
    """Command lines that read the file `path`; those that write, write to the folder `out`."""
    card = path.parent / "card.toml"
    model = ("--model", MODEL, "--route", "ode", "--ensemble", path)
    quick = ("hmc.n_chains=2", "hmc.n_warmup=2", "hmc.n_updates=4", "hmc.thin=1", "gate.enforce=false")
    start_from = ("--start", path, *(word for key in quick for word in ("--set", key)))
    short = ("training.steps=2", "training.batch=4", "finetune.steps=2", "finetune.batch=2", "finetune.n_check=8")
    few = tuple(word for key in (*short, "gate.enforce=false") for word in ("--set", key))
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
        "merge": ("merge", path.parent / "other.h5", path, "--out", out / "m.h5"),
        "split": ("split", path, "--pieces", 2, "--out", out / "s.h5"),
        "repair": ("repair", path, "--out", out / "r.h5"),
        "migrate": ("migrate", path, "--out", out / "g.h5"),
        "compare": ("compare", path.parent / "sound.h5", path, "--out", out / "page", "--quiet"),
        "train": ("train", card, "--ensemble", path, "--out", out / "model", "--quiet", *few),
        "finetune": ("finetune", card, "--model", MODEL, "--ensemble", path, "--out", out / "tuned", "--quiet", *few),
        "generate --start": ("generate", card, "--out", out / "n.h5", "--quiet", *start_from),
        "generate --more": ("generate", card, "--out", path, "--more", 4, "--quiet"),
        "reweight": ("reweight", path, "--to", "lam=6.1", "--quiet"),
        "free-energy": ("free-energy", "--model", MODEL, "--ensemble", path, "--n", 8, "--quiet"),
        "diagnose": ("diagnose", MODEL, "--ensemble", path, "--n", 50, "--levels", 0, "--out", out / "d", "--quiet"),
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
    for name in ("card.toml", "sound.h5", "other.h5", "secret.h5", "secret.raw"):
        os.link(room / name, tmp_path / name)
    (tmp_path / "out").mkdir()
    return tmp_path


def check_all(mutation, names, beside, capsys):
    path, out = beside / "x.h5", beside / "out"
    shutil.copy(beside / "sound.h5", path)
    with h5py.File(path, "r+") as file:
        unseal(file)
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


@pytest.mark.slow
def test_a_sound_file_is_taken_by_every_command(beside, capsys):
    """What is refused below is refused for what is in the file."""
    path, out = beside / "x.h5", beside / "out"
    shutil.copy(beside / "sound.h5", path)
    for name, arguments in commands(path, out).items():
        if name != "migrate":  # the file is of the present version
            code, error = run(arguments, capsys, 120)
            assert code == 0, (name, error)


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


def _pipe(path):
    os.mkfifo(path)


def _socket(path):
    with socket.socket(socket.AF_UNIX) as one:
        here = os.getcwd()
        os.chdir(path.parent)  # the address of a socket has at most 108 bytes
        try:
            one.bind(path.name)
        finally:
            os.chdir(here)


NO_FILES = {
    "pipe": _pipe,
    "socket": _socket,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": lambda path: path.mkdir(),
    "folder with files": lambda path: (path.mkdir(), (path / "run.json").write_text('{"digest": "1"}')),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not a number"),
    "signature": lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(2000)),
    "nothing": lambda path: None,
}


@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file_is_refused_before_it_is_opened(beside, capsys, kind):
    """A pipe without a writer would be waited for, for ever."""
    path = beside / "x.h5"
    NO_FILES[kind](path)
    every = commands(path, beside / "out")
    names = every if kind in ("pipe", "folder") else QUICK
    for name in names:
        check_refusal((kind, name), every[name], capsys, beside / "out")


def test_names_too_long_are_refused(beside, capsys):
    long = beside / ("n" * 300 + ".h5")
    for name, arguments in commands(long, beside / "out").items():
        assert "name too long" in check_refusal(name, arguments, capsys, beside / "out"), name
    for name, arguments in commands(beside / "sound.h5", beside / "out").items():
        if "--out" in arguments and name != "migrate":
            given = [long.with_suffix(w.suffix) if at == "--out" else w for at, w in pairwise(("", *arguments))]
            assert "name too long" in check_refusal(name, given, capsys, beside / "out"), name


@pytest.mark.parametrize("make_one", [_pipe, lambda path: path.mkdir(), lambda path: path.symlink_to("/dev/zero")])
def test_every_other_file_may_be_a_pipe_too(beside, capsys, make_one):
    out = beside / "out"
    foreign = [beside / f"x{suffix}" for suffix in (".npy", ".npz", ".bin", ".hdf5")]
    card, model, run_folder = beside / "odd.toml", beside / "model", beside / "run"
    for path in (*foreign, card):
        make_one(path)
    for folder, odd in ((model, "card.toml"), (beside / "weights", "weights.safetensors")):
        shutil.copytree(model_folder(MODEL), folder)
        (folder / odd).unlink()
        make_one(folder / odd)
    (run_folder / "stages").mkdir(parents=True)
    shutil.copy(beside / "card.toml", run_folder)
    make_one(run_folder / "stages" / "train.json")
    (beside / "y.h5.run").mkdir()
    make_one(beside / "y.h5.run" / "run.json")
    lines = [("convert", path, "--card", beside / "card.toml", "--out", out / "a.h5") for path in foreign]
    lines += [("convert", beside / "sound.h5", "--card", card, "--out", out / "a.h5")]
    lines += [("generate", card, "--out", out / "a.h5"), ("verify", beside / "weights")]
    lines += [(command, beside / name) for command in ("info", "verify") for name in ("model", "y.h5.run")]
    lines += [("free-energy", "--model", beside / name) for name in ("model", "weights")]
    lines += [("info", run_folder)]
    for line in lines:
        check_refusal(line, line, capsys, out)


def _npy(header, data=b"", version=b"\x01\x00"):
    text = header.encode() if isinstance(header, str) else header
    return b"\x93NUMPY" + version + len(text).to_bytes(2 if version[0] == 1 else 4, "little") + text + data


def _header(shape, descr="'<f8'"):
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n"


def _array(shape, dtype="<f8"):
    return _npy(_header(shape, f"'{dtype}'"), np.zeros(shape, dtype).tobytes())


BAD_ARRAYS = {
    "huge": _npy(_header(f"({1 << 40}, 8, 8)"), bytes(512)),
    "longer than the file": _npy(_header("(3, 8, 8)"), bytes(512)),
    "negative": _npy(_header("(-1, 8, 8)"), bytes(512)),
    "not integers": _npy(_header("(1.5, 8, 8)"), bytes(512)),
    "pickled": _npy(_header("(1, 8, 8)", "'|O'"), bytes(512)),
    "records": _npy(_header("(1, 8, 8)", "[('a', '<f8')]"), bytes(512)),
    "complex": _array((2, 8, 8), "<c16"),
    "deep": _npy("(" * 60_000 + ")" * 5000, b""),
    "no dictionary": _npy("[]\n", b""),
    "torn header": _npy("{'descr': '<f8', 'fort", b""),
    "no UTF-8": _npy(b"\xff\xfe\xff", b""),
    "long header": _npy("x" * 100_000, b"", b"\x03\x00"),
    "future": b"\x93NUMPY\x09\x00" + bytes(100),
    "empty": _array((0, 8, 8)),
    "no sites": _array((5, 0, 8)),
    "a number": _array(()),
    "flat": _array((64,)),
    "pickle": b"\x80\x04cposix\nsystem\n(S'touch owned'\ntR.",
    "nothing": b"",
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_arrays_are_measured_before_they_are_read(beside, capsys, name):
    out = beside / "out"
    (beside / "a.npy").write_bytes(BAD_ARRAYS[name])
    with zipfile.ZipFile(beside / "a.npz", "w") as archive:
        archive.writestr("phi.npy", BAD_ARRAYS[name])
    (beside / "b.npz").write_bytes(BAD_ARRAYS[name])
    shutil.copy(beside / "a.npz", beside / "b.npy")
    for file in ("a.npy", "a.npz", "b.npz", "b.npy"):
        line = ("convert", beside / file, "--card", beside / "card.toml", "--no-check", "--out", out / "o.h5")
        check_refusal((name, file), line, capsys, out)


def _bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("phi.npy", "w") as member:
        member.write(_npy(_header(f"({1 << 21}, 8, 8)"), b""))
        for _ in range(1 << 6):
            member.write(bytes(1 << 20))


def _false_sizes(path):
    """An archive that claims to hold a terabyte."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("phi.npy", _npy(_header(f"({1 << 31}, 8, 8)"), bytes(512)))
    data = path.read_bytes()
    at = data.rindex(b"PK\x01\x02")
    path.write_bytes(data[: at + 24] + (0xFFFFFFF0).to_bytes(4, "little") + data[at + 28 :])


def _torn_archive(path):
    np.savez_compressed(path, phi=np.random.default_rng(1).normal(size=(20, 8, 8)))
    data = bytearray(path.read_bytes())
    data[200:260] = bytes(60)
    path.write_bytes(data)


def _encrypted(path):
    np.savez(path, phi=np.zeros((20, 8, 8)))
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    data[6] |= 1
    path.write_bytes(data)


def _method(path):
    np.savez(path, phi=np.zeros((20, 8, 8)))
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 10] = 77
    path.write_bytes(data)


@pytest.mark.parametrize("spoil", [_bomb, _false_sizes, _torn_archive, _encrypted, _method])
def test_archives_are_measured_before_they_are_unpacked(beside, capsys, spoil):
    spoil(beside / "a.npz")
    line = ("convert", beside / "a.npz", "--card", beside / "card.toml", "--no-check", "--out", beside / "out" / "o.h5")
    check_refusal(spoil.__name__, line, capsys, beside / "out")
    with pytest.raises(FileError):
        read_arrays(beside / "a.npz")


@pytest.mark.parametrize(
    "options",
    [{"dtype": "O"}, {"dtype": "f8,f8"}, {"dtype": "x" * 50}, {"dtype": "(2,"}, {"offset": -8}, {"shape": (8, 0)}],
)
def test_raw_numbers_are_numbers(tmp_path, options):
    np.random.default_rng(1).normal(size=(20, 8, 8)).tofile(tmp_path / "a.bin")
    with pytest.raises(UserError):
        convert(tmp_path / "a.bin", tmp_path / "o.h5", ACTION, **{"shape": (8, 8), **options})


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
def test_axes_in_another_order_are_no_configurations(tmp_path, suffix, check):
    """6 x 4 sites, 2000 configurations along the last axis: six configurations of 4 x 2000, if one believes it."""
    phi, path = np.random.default_rng(1).normal(size=(6, 4, 2000)), tmp_path / f"a{suffix}"
    if suffix == ".npy":
        np.save(path, phi)
    elif suffix == ".npz":
        np.savez(path, phi=phi)
    else:
        with h5py.File(path, "w") as file:
            file["phi"] = phi
    with pytest.raises(UserError, match=r"give the lattice, lattice=\(4, 2000\)"):
        convert(path, tmp_path / "o.h5", ACTION, check=check)
    with pytest.raises(FileError, match=r"expected \(n_cfg, 6, 4\)"):
        convert(path, tmp_path / "o.h5", ACTION, check=check, lattice=(6, 4))
    assert not (tmp_path / "o.h5").exists()


def test_nothing_makes_no_ensemble(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((0, 8, 8)))
    with pytest.raises(FileError, match="holds no configuration"):
        convert(tmp_path / "a.npy", tmp_path / "o.h5", ACTION, lattice=(8, 8))
    with pytest.raises(UserError, match="holds no configuration"):
        save_ensemble(tmp_path / "o.h5", np.zeros((0, 8, 8)), action=ACTION)


EVIL = "\x1b]0;owned\x07\x1b[2J\r\x9b31m\u202e\nerror: all is well"


def test_no_string_of_a_file_reaches_the_terminal_as_it_is(beside, capsys):
    path = beside / "x.h5"
    shutil.copy(beside / "sound.h5", path)
    with h5py.File(path, "r+") as file:
        unseal(file)
        header = file["ensemble"].attrs
        header["algorithm"] = json.dumps({"name": EVIL}, ensure_ascii=False)
        for name in ("program", "version", "commit", "created"):
            file["provenance"].attrs[name] = EVIL
        del file["provenance/parents"]
        file["provenance/parents"] = json.dumps([{"file": EVIL, "fingerprint": EVIL}])
        file[f"history/{EVIL}"] = np.zeros((20, 3))
        file[f"history/{EVIL}"].attrs["is_bool"] = False
    model = beside / "model"
    shutil.copytree(model_folder(MODEL), model)
    card = tomllib.loads((model / "card.toml").read_text())
    card["program"]["commit"] = card["training"][EVIL] = card["network"]["name"] = EVIL
    (model / "card.toml").write_text(tomli_w.dumps(card))
    named = beside / f"a{EVIL.replace('/', '')}.h5"
    shutil.copy(path, named)
    wrong = beside / "wrong.h5"
    shutil.copy(path, wrong)
    with h5py.File(wrong, "r+") as file:
        unseal(file)
        file["ensemble"].attrs["action"] = json.dumps({"name": EVIL})
    lines = [(command, file) for command in ("info", "verify", "measure") for file in (path, named, wrong, model)]
    lines += [("cut", named, "--out", beside / "out" / f"{EVIL}.h5"), ("free-energy", "--model", model)]
    lines += [("merge", path, beside / "sound.h5", "--out", beside / "out" / "m.h5")]
    lines += [("generate", beside / "card.toml", "--out", beside / "out" / "g.h5", "--set", f"hmc.{EVIL}=1")]
    lines += [
        ("convert", beside / "sound.h5", "--dataset", EVIL, "--card", beside / "card.toml", "--out", beside / "c")
    ]
    for line in lines:
        with suppress(SystemExit):
            main([str(word) for word in line])
        said = capsys.readouterr()
        for text in (said.out, said.err):
            assert re.fullmatch(r"[^\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]*", text), line
            assert not re.search(r"^error: all is well", text, re.MULTILINE), line


def test_a_report_page_shows_strings_and_runs_none(beside, capsys):
    named = beside / "<script>alert(1)</script>$\\frac{".replace("/", "")
    shutil.copy(beside / "sound.h5", f"{named}.h5")
    with h5py.File(f"{named}.h5", "r+") as file:
        file["ensemble"].attrs["algorithm"] = json.dumps({"name": "</pre><script>alert(2)</script>"})
    reseal(f"{named}.h5")
    code, error = run(("compare", beside / "sound.h5", f"{named}.h5", "--out", beside / "page", "--quiet"), capsys)
    assert code == 0, error
    page = (beside / "page" / "report.html").read_text()
    assert "alert(1)" in page and not re.search(r"<script>\s*alert", page)


def test_printable_leaves_words_alone():
    words = "phi^4 on 8x8: 0.25(3), ⟨φ²⟩ – τ_int ≈ 1 µs, größer"
    assert printable(words) == words
    assert printable("a\x1b[2Jb\nc\u202ed\x9b") == "a\\x1b[2Jb\\nc\\u202ed\\x9b"
    assert printable("x" * 100, 10) == "x" * 10 + "..."


@pytest.mark.parametrize("size", [0, 8, 1 << 20, (1 << 64) - 8])
def test_a_heap_of_strings_that_leads_nowhere_is_not_walked(beside, capsys, size):
    """HDF5 2.0 goes round for ever in a heap whose free space has size 0, where no signal ends it."""
    path = beside / "x.h5"
    data = bytearray((beside / "sound.h5").read_bytes())
    at = end = data.index(b"GCOL")
    at, end = at + 16, at + int.from_bytes(data[at + 8 : at + 16], "little")
    while at + 16 <= end and int.from_bytes(data[at : at + 2], "little"):  # up to the object that stands for free space
        at += 16 + -(-int.from_bytes(data[at + 8 : at + 16], "little") // 8) * 8
    data[at : at + 16] = bytes(8) + size.to_bytes(8, "little")
    path.write_bytes(data)
    assert "heap" in check_refusal(size, ("info", path), capsys, beside / "out")


def test_a_text_that_declares_gigabytes_is_refused(beside, capsys):
    path = beside / "x.h5"
    shutil.copy(beside / "sound.h5", path)
    with h5py.File(path, "r+") as file:
        at = file["provenance/config_toml"].id.get_offset()
    data = bytearray(path.read_bytes())
    data[at : at + 4] = (0xFFFFFFF0).to_bytes(4, "little")
    path.write_bytes(data)
    assert "declares a text" in check_refusal("text", ("info", path), capsys, beside / "out")


def test_a_file_cut_from_an_impossible_length_is_not_repaired(beside, capsys):
    path = beside / "x.h5"
    data = bytearray((beside / "sound.h5").read_bytes())
    at = data.index(len(data).to_bytes(8, "little"))  # the length that the superblock records
    data[at : at + 8] = ((1 << 63) + 8).to_bytes(8, "little")
    path.write_bytes(data)
    check_refusal("length", ("repair", path, "--out", beside / "out" / "r.h5"), capsys, beside / "out")


WORDS = {
    "soft_link": "soft link",
    "link_to_another_file": "link to another file",
    "external_storage": "keeps its numbers in another file",
    "external_text": "keeps its numbers in another file",
    "virtual": "virtual data set",
    "never_written": "the file holds 0",
    "rows_2_to_the_40": "declares shape",
}


@pytest.mark.parametrize("mutation", WORDS)
def test_a_refusal_names_what_was_found(beside, mutation):
    """Behind each of these stands another check, which refuses too, for a reason that helps nobody."""
    path = beside / "x.h5"
    shutil.copy(beside / "sound.h5", path)
    with h5py.File(path, "r+") as file:
        unseal(file)
        REFUSED[mutation](file)
    with pytest.raises(FileError, match=WORDS[mutation]):
        verify(path)


def test_results_print_no_escape_of_a_name_either(beside, capsys):
    """A sound file, so that the name goes to standard output and not into a refusal."""
    path = beside / "a\x1b]0;owned\x07\u202eb.h5"
    shutil.copy(beside / "sound.h5", path)
    for line in (("verify", path), ("cut", path, "--start", 5, "--out", beside / "out" / "c\x07.h5"), ("info", path)):
        with suppress(SystemExit):
            main([str(word) for word in line])
        said = capsys.readouterr()
        assert "owned" in said.out or line[0] == "cut", said.err
        assert re.fullmatch(r"[^\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]+", said.out), line


def test_an_archive_larger_than_memory_is_not_unpacked(tmp_path):
    """However little it is packed: half of the memory of this machine is the limit."""
    info = zipfile.ZipInfo("phi.npy")
    info.file_size = info.compress_size = 1 << 60
    with pytest.raises(FileError, match="read in pieces"):
        _require_room(info, tmp_path / "a.npz")


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file that says of itself that it is one, and fails")
@pytest.mark.parametrize("command", ["verify", "info", "measure"])
def test_a_file_that_cannot_be_read_is_one_line(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([command, "/proc/self/mem"])
    told = capsys.readouterr().err.splitlines()
    assert caught.value.code == 2 and len(told) == 1 and told[0].startswith("error: ")
