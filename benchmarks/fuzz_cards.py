"""Run-cards and command lines as nobody should write them, and what the program says to each.

Two thirds are cards: those of `configs/` with keys deleted, doubled, moved and misspelt, values of other types and
sizes, nesting, marks and bytes that are no text. Each is read, its theory built, written and read again. One third are
command lines of every subcommand, run in this process on tiny files, with values mutated and files swapped, missing,
empty, or a folder in a file's place. Each answer is counted:

- ``accepted``: what was asked for was done;
- ``refused``: one line that names the trouble, and exit code 2 or 3 (of a mistyped option: the lines of the parser);
- ``traceback``: anything else that ends it; ``hang``: no answer in time;
- ``silent``: accepted, but a value of the card is not what was written, or the file asked for is not there.

    python benchmarks/fuzz_cards.py [--n 10000] [--seed 1] [--json]
"""

import argparse
import contextlib
import copy
import io
import json
import math
import random
import shutil
import signal
import sys
import tempfile
import tomllib
import traceback
import warnings
from collections import Counter
from pathlib import Path

import tomli_w

from latticediff.cli import main as latticediff
from latticediff.config import parse_card
from latticediff.errors import UserError

CONFIGS = Path(__file__).parent.parent / "configs"
SECONDS = 60.0  # until something hangs; compilation of a kernel is in it

TINY = """
[action]
convention = "A"
m2 = -4.0
lam = 6.0
[lattice]
shape = [4, 4]
[hmc]
n_chains = 8
n_warmup = 20
n_updates = 100
thin = 2
[gate]
enforce = false
[network]
features = 4
hidden = 8
[training]
steps = 2
batch = 16
device = "cpu"
[sampling]
n_forward = 50
max_doubling = "any"
[sampling.ode]
n_chains = 4
n_warmup = 1
n_updates = 10
steps = 4
[sampling.sde]
n_chains = 4
n_warmup = 1
n_updates = 10
steps = 4
"""


class Hang(BaseException):
    """No answer in time; no handler of ours catches it."""


@contextlib.contextmanager
def alarm(seconds):
    """Raise `Hang` in the block after so long."""

    def ring(*_):
        raise Hang

    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


# values that no key expects, beside those that some do
VALUES = (
    -1, 0, 1, 2, 3, 7, 2**31, 2**63, 2**64, 10**18, -(2**63), 10**400, 0.0, -0.0, 0.5, 1.0, 1e-320, 1e308, -1e308,
    math.nan, math.inf, -math.inf, True, False, "", "A", "H", "hot", "phi4", "ridge", "unet", "auto", "cuda:99", "ode",
    "\x00", "\x1b[31m", "φ" * 50, "x" * 5000, "../../etc", [], [1], [[1]], [4, 4], [0], [-4, 4], [4.0, 4], [2**40] * 4,
    ["a"], [True], {}, {"a": 1}, {"name": "phi4"}, [{}], [{"file": 3}], [[[[[[]]]]]],
)  # fmt: skip
WORDS = ("n_chains", "steps", "lam", "kappa", "name", "x", "méthode", "", "a.b", "shape", "__class__", "model_config")


def tables_of(data):
    """All tables in a nested dict, the outermost first."""
    found = [data]
    for table in found:
        found += [value for value in table.values() if isinstance(value, dict)]
    return found


def mutate(data, rng):
    """One mutation of a card's nested dict, in place."""
    table = rng.choice(tables_of(data))
    keys = list(table)
    kind = rng.randrange(7)
    if kind == 0 and keys:
        del table[rng.choice(keys)]
    elif kind == 1 and keys:  # a misspelling
        key = rng.choice(keys)
        at = rng.randrange(len(key) + 1)
        table[key[:at] + rng.choice("abz_ é") + key[at + 1 :]] = table.pop(key)
    elif kind == 2:
        table[rng.choice(WORDS)] = copy.deepcopy(rng.choice(VALUES))
    elif kind == 3 and keys:  # into another section
        rng.choice(tables_of(data))[rng.choice(keys)] = copy.deepcopy(rng.choice(VALUES))
    elif kind == 4 and keys:
        key = rng.choice(keys)
        if isinstance(table[key], int | float) and not isinstance(table[key], bool):
            table[key] *= rng.choice((-1, 0, 2, 0.5, 10**6, 10**12, 1e-300))
    elif keys:
        table[rng.choice(keys)] = copy.deepcopy(rng.choice(VALUES))


def spoil(text, rng):
    """Bytes of a card whose text itself is damaged."""
    kind, data = rng.randrange(8), text.encode()
    at = rng.randrange(len(data) + 1)
    if kind == 0:
        return b"\xef\xbb\xbf" + data
    if kind == 1:
        return data[:at]
    if kind == 2:
        return data[:at] + bytes(rng.randrange(256) for _ in range(rng.randrange(1, 9))) + data[at:]
    if kind == 3:
        lines = text.split("\n")
        lines.insert(rng.randrange(len(lines)), rng.choice(lines))
        return "\n".join(lines).encode()
    if kind == 4:
        return data + b"\nx = " + rng.choice((b"[" * 9000, b"{a=" * 9000, b"[" * 900 + b"]" * 900))
    if kind == 5:
        return data + b"\n[" + b".".join([b"a"] * rng.choice((3, 30, 3000))) + b"]\nx = 1"
    if kind == 6:
        return text.encode(rng.choice(("utf-16", "utf-32", "latin-1")), errors="replace")
    return data + rng.choice((b"\nseed = 0x" + b"f" * 9000, b"\nx = " + b"9" * 5000, b"\nx = 2020-13-40", b"\x00"))


def flat(tree, prefix=""):
    """``{"hmc": {"thin": 1}}`` as ``{"hmc.thin": 1}``."""
    found = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def judge_card(raw):
    """What a card of these bytes meets: ``(verdict, detail)``."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = None
    try:
        with tempfile.NamedTemporaryFile(suffix=".toml") as file, alarm(SECONDS), warnings.catch_warnings():
            warnings.simplefilter("error")
            file.write(raw)
            file.flush()
            from latticediff.config import load_card

            card = load_card(file.name)
            theory = card.theory()
            again = parse_card(card.to_toml())
    except UserError as exc:
        line = str(exc)
        return (
            ("refused", line) if line and "\n" not in line and len(line) < 1000 else ("traceback", f"bad line {line}")
        )
    except Hang:
        return "hang", ""
    except Exception:
        return "traceback", traceback.format_exc(limit=-3)
    if text is None or again != card or again.digest() != card.digest():
        return "silent", "the card that is written is not the card that was read"
    # every value as it stands in the file, or refused: none dropped, none changed but from 4 to 4.0
    effective = flat(card.to_dict())
    for key, value in flat(tomllib.loads(text)).items():
        if not isinstance(value, list) and effective.get(key) != value:
            return "silent", f"{key} = {value!r} became {effective.get(key)!r}"
    theory = getattr(theory, "of", theory)  # a theory in an external field has the coefficients of the one without
    if not all(map(math.isfinite, getattr(theory, "coefficients", ()))):
        return "silent", f"{theory!r} has coefficients {theory.coefficients}"
    return "accepted", ""


def random_card(rng, cards):
    """Bytes of a mutated card."""
    data = tomllib.loads(rng.choice(cards))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        mutate(data, rng)
    text = tomli_w.dumps(data)
    return spoil(text, rng) if rng.random() < 0.2 else text.encode()


# {e}: ensemble, {m}: model, {c}: card, {o}: a name that is free
COMMANDS = (
    ("info", "{e}"), ("info", "{m}"), ("verify", "{e}"), ("verify", "{m}"), ("measure", "{e}", "--s-tau", "1.5"),
    ("measure", "{e}", "--json"), ("thin", "{e}", "--every", "2", "--out", "{o}.h5"),
    ("cut", "{e}", "--start", "20", "--stop", "60", "--out", "{o}.h5"),
    ("split", "{e}", "--pieces", "2", "--out", "{o}.h5"), ("merge", "{e}", "{e}", "--out", "{o}.h5"),
    ("repair", "{e}", "--out", "{o}.h5"), ("migrate", "{e}", "--out", "{o}.h5"), ("export", "{e}", "--out", "{o}.npy"),
    ("convert", "{n}", "--card", "{c}", "--out", "{o}.h5", "--n-chains", "4", "--thin", "1"),
    ("compare", "{e}", "--out", "{o}", "-q"), ("models",), ("models", "--json"), ("--version",),
    ("generate", "{c}", "--out", "{o}.h5", "--set", "hmc.n_updates=20", "-q", "--max-walltime", "30"),
    ("generate", "{c}", "--out", "{e}", "--more", "10", "-q"),
    ("generate", "{c}", "--out", "{o}.h5", "--until", "20", "-q"),
    ("generate", "{c}", "--out", "{o}.h5", "--start", "{e}", "-q"),
    ("train", "{c}", "--ensemble", "{e}", "--out", "{o}", "-q", "--set", "training.steps=1"),
    ("finetune", "{c}", "--model", "{m}", "--ensemble", "{e}", "--out", "{o}", "-q", "--set", "finetune.steps=1"),
    ("sample", "{c}", "--model", "{m}", "--route", "ode", "--out", "{o}.h5", "-q", "--set", "sampling.ode.n_updates=4"),
    ("sample", "{c}", "--model", "{m}", "--route", "sde", "--out", "{o}.h5", "-q"),
    ("weigh", "{c}", "--model", "{m}", "--route", "ode", "--ensemble", "{e}", "--out", "{o}.npz", "-q"),
    ("tune", "{c}", "--model", "{m}", "--values", "0.5,1", "--chains", "4", "--updates", "4", "-q",
     "--set", "sampling.kernel.move=partial"),
    ("free-energy", "{m}", "--n", "50", "--steps", "4", "-q"), ("reweight", "{m}", "--n", "50", "--steps", "4", "-q"),
    ("line", "{m}", "--along", "lam=6:6.1:2", "--n", "8", "--out", "{o}", "-q"),
)  # fmt: skip
ARGUMENTS = (
    "", "-1", "0", "1", "1.5", "nan", "inf", "1e400", "9" * 400, str(2**63), "x", "φ", "x" * 300, "x" * 5000, "a/b/c",
    "/dev/null", "/proc/self/mem", "/", ".", "--", "-", "--set", "--out", "\x1b[31m", "\udcff", "*", "lam=", "lam=1:2",
    "lam=nan", "lam=1:2:10000", "action={", "hmc.n_chains=0", "hmc=3", "a.b.c.d.e=1", "=", "ode", "1h", "0s",
)  # fmt: skip


def prepare(folder):
    """Tiny files of every kind in `folder`; names of the placeholders."""
    import numpy as np

    (folder / "card.toml").write_text(TINY)
    (folder / "empty.h5").touch()
    (folder / "folder.h5").mkdir()
    (folder / "folder.h5" / "something").touch()
    (folder / "bytes.h5").write_bytes(bytes(range(256)) * 40)
    (folder / "text.json").write_text("[" * 20000)
    np.save(folder / "fields.npy", np.random.default_rng(1).normal(0, 0.4, (40, 4, 4)))
    card, names = str(folder / "card.toml"), {}
    for arguments in (
        ("generate", card, "--out", str(folder / "ens.h5"), "-q"),
        ("train", card, "--ensemble", str(folder / "ens.h5"), "--out", str(folder / "model"), "-q"),
    ):
        code, _, err = call(arguments)
        if code != 0:
            raise RuntimeError(f"{arguments}: {err}")
    names |= {"c": card, "e": str(folder / "ens.h5"), "m": str(folder / "model"), "n": str(folder / "fields.npy")}
    others = (
        "empty.h5",
        "folder.h5",
        "bytes.h5",
        "text.json",
        "absent.h5",
        "card.toml",
        "ens.h5",
        "model",
        "fields.npy",
    )
    return names, [str(folder / name) for name in others]


def call(arguments):
    """Run a command line in this process: exit code (None after an exception), standard output and error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("default")
        try:
            latticediff(list(arguments))
            code = 0
        except SystemExit as exc:
            code = 0 if exc.code is None else exc.code
        except Exception:
            return None, out.getvalue(), traceback.format_exc(limit=-4)
    return code, out.getvalue(), err.getvalue()


def random_command(rng, names, others, folder):
    """Arguments, and the file that a sound command writes."""
    target = str(folder / "out")
    names = {**names, "o": target}
    arguments = [part.format(**names) for part in rng.choice(COMMANDS)]
    for _ in range(rng.choice((0, 1, 1, 1, 2))):
        at, kind = rng.randrange(len(arguments)), rng.randrange(6)
        if kind == 0:
            arguments[at] = rng.choice(others)
        elif kind == 1:
            del arguments[at]
        elif kind == 2:
            arguments.insert(at, rng.choice(ARGUMENTS))
        elif kind == 3 and at + 1 < len(arguments):
            arguments[at], arguments[at + 1] = arguments[at + 1], arguments[at]
        elif kind == 4:
            arguments += ["--set", f"{rng.choice(SET_KEYS)}={rng.choice(ARGUMENTS)}"]
        else:
            arguments[at] = rng.choice(ARGUMENTS)
        if not arguments:
            break
    return arguments


SET_KEYS = ("hmc.n_chains", "lattice.shape", "action.lam", "action", "training.batch", "sampling.ode.steps", "x", "a.b")


def stays_here(arguments):
    """Whether a command line neither writes outside of the folder of this test nor is a long run by right."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if before == "--out" and not argument.startswith(tempfile.gettempdir()):
            return False
        if before in ("--n", "--chains", "--updates", "--until", "--more", "--steps") and len(argument) > 2:
            return False
        if argument.endswith(tuple("9876543210")) and "=" in argument and len(argument.split("=")[1]) > 12:
            return False
    return True


def judge_command(arguments, folder):
    """What a command line meets: ``(verdict, detail)``."""
    places = folder, folder.parent  # a file that is absent may be asked for as the new one
    before = {path for place in places for path in place.iterdir()}
    try:
        with alarm(SECONDS):
            code, out, err = call(arguments)
    except Hang:
        return "hang", ""
    finally:
        made = {path for place in places for path in place.iterdir()} - before
        for path in made:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    lines = [line for line in err.splitlines() if line.strip()]
    if code is None:
        return "traceback", err
    if "Warning:" in err:
        return "traceback", f"a warning of Python: {err}"
    if code == 0:
        # help and version aside, something was printed or written
        return ("accepted", "") if out.strip() or made or "--more" in arguments else ("silent", f"nothing done; {err}")
    if any(path.suffix in (".h5", ".npz", ".npy", ".toml") for path in made):
        return "silent", f"exit code {code}, and yet {sorted(path.name for path in made)} is there"
    ours = [line for line in lines if line.startswith(("error: ", "stopped: "))]
    usage = any(line.startswith(("Usage: ", "Error: ")) for line in lines)  # of the parser
    if code in (2, 3, 75) and ((len(ours) == 1 and lines[-1] == ours[0]) or usage):
        return "refused", lines[-1]
    return "traceback", f"exit code {code}: {err or out}"


def fuzz(n, seed, folder, share=2 / 3):
    """Counts by kind and verdict, and what was found: ``[(kind, verdict, input, detail)]``."""
    rng = random.Random(seed)
    cards = [path.read_text(encoding="utf-8") for path in sorted(CONFIGS.glob("*.toml"))]
    counts = {"cards": Counter(), "commands": Counter()}
    found = []
    for _ in range(round(share * n)):
        raw = random_card(rng, cards)
        verdict, detail = judge_card(raw)
        counts["cards"][verdict] += 1
        if verdict not in ("accepted", "refused"):
            found.append(("cards", verdict, raw.decode("utf-8", "backslashreplace")[-2000:], detail))
    if share < 1:
        names, others = prepare(folder)
        (folder / "here").mkdir()
        sound = {name: Path(name).read_bytes() for name in names.values() if Path(name).is_file()}
    while sum(counts["commands"].values()) < n - round(share * n):
        arguments = random_command(rng, names, others, folder / "here")
        if not arguments or not stays_here(arguments):
            continue
        verdict, detail = judge_command(arguments, folder / "here")
        counts["commands"][verdict] += 1
        if verdict not in ("accepted", "refused"):
            found.append(("commands", verdict, arguments, detail))
        for name, data in sound.items():
            if Path(name).read_bytes() != data and "--more" not in arguments and "--until" not in arguments:
                found.append(("commands", "silent", arguments, f"{name} was changed"))
            Path(name).write_bytes(data)
    return counts, found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--share", type=float, default=2 / 3, help="of cards among all")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts, found = fuzz(options.n, options.seed, Path(folder), options.share)
    verdicts = ("accepted", "refused", "traceback", "hang", "silent")
    table = {kind: {verdict: counted[verdict] for verdict in verdicts} for kind, counted in counts.items()}
    if options.json:
        print(json.dumps({"n": options.n, "seed": options.seed, **table, "found": found}, indent=1, default=str))
    else:
        print(f"{'':12}" + "".join(f"{verdict:>12}" for verdict in verdicts))
        for kind, row in table.items():
            print(f"{kind:12}" + "".join(f"{row[verdict]:12}" for verdict in verdicts))
        for kind, verdict, given, detail in found[:50]:
            print(f"\n{kind}, {verdict}: {given!r}\n{detail}")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
