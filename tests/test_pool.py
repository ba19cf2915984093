"""Pools of weighed draws: the same bits in both forms, each draw used once, and a chain that is exact."""

import shutil

import h5py
import numpy as np
import pytest

import latticediff
from latticediff.cli import main
from latticediff.ensemble import Ensemble, run_directory, verify
from latticediff.errors import FileError, StopRequested, UserError
from latticediff.pool import open_pool, write_pool
from latticediff.pool.consumed import claim, consumed
from latticediff.pool.files import require_digest
from latticediff.signals import StopReason
from latticediff.stages import accept as accept_stage
from latticediff.stages.accept import accept
from latticediff.stages.info import info
from latticediff.stages.propose import propose
from latticediff.stages.propose_many import propose_many
from latticediff.stages.verify import verify as verify_file
from latticediff.stages.weigh_fields import weigh_fields
from latticediff.streams import Streams

L8 = "phi4-A-L8"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder with pools a.h5, a.bin (the same draws), b.bin (another stream), sde.h5."""
    folder = tmp_path_factory.mktemp("pools")
    for name, options in {
        "a.h5": {},
        "a.bin": {},
        "b.bin": {"stream": 1},
        "sde.h5": {"route": "sde", "n": 60},
    }.items():
        propose(L8, options.pop("n", 400), folder / name, **options)
    return folder


@pytest.fixture
def pools(made, tmp_path):
    for path in made.iterdir():
        shutil.copy(path, tmp_path)
    return tmp_path


def rows(path):
    pool = open_pool(path)
    found = pool.rows(0, pool.header.n)
    pool.close()
    return pool, found


def run(*words, code=0):
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    assert (caught.value.code or 0) == code


def refusal(function, *arguments, **options):
    with pytest.raises(UserError) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_both_forms_hold_the_draws_of_the_model(pools):
    (one, a), (two, b) = rows(pools / "a.h5"), rows(pools / "a.bin")
    assert one.header == two.header and one.data_sha256 == two.data_sha256
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    model = latticediff.load(L8)
    draw = model.proposal().draw(400, Streams(1).child("pool").child("0").generator("propose"))
    assert np.array_equal(a.phi, draw.phi) and np.array_equal(a.log_q, draw.log_q)
    assert np.array_equal(a.action, model.action(draw.phi))
    assert one.header.model_sha256 == model.fingerprint() and one.header.n == 400 and one.header.shape == (8, 8)
    assert not np.array_equal(rows(pools / "b.bin")[1].phi, a.phi)


def test_a_binary_pool_is_read_in_six_lines(pools):
    with open(pools / "a.bin", "rb") as file:
        lines = iter(file.readline().decode().rstrip("\n").partition(" ") for _ in range(100))
        header = {}
        while (line := next(lines))[0] != "end":
            header[line[0]] = line[2]
        file.seek(int(header["header_bytes"]))
        numbers = np.fromfile(file, "<f8").reshape(int(header["n"]), 2 + 64)
    found = rows(pools / "a.bin")[1]
    assert np.array_equal(numbers[:, 0], found.action) and np.array_equal(numbers[:, 1], found.log_q)
    assert np.array_equal(numbers[:, 2:].reshape(-1, 8, 8), found.phi)
    assert int(header["header_bytes"]) % 4096 == 0 and header["shape"] == "8 8" and header["consumed"] == "0" * 20


def test_an_hdf5_pool_is_read_by_plain_hdf5(pools):
    with h5py.File(pools / "a.h5") as file:
        assert file["phi"].shape == (400, 8, 8) and file["consumed"][()] == 0
        assert file.attrs["schema"] == "latticediff-pool" and len(file.attrs["model_sha256"]) == 64


@pytest.mark.parametrize("name", ["a.h5", "a.bin"])
def test_the_chain_is_that_of_an_own_accept_step(pools, name):
    chain = accept([pools / name], pools / "chain.h5", n_chains=4, n_warmup=0, model=L8)
    _, pool = rows(pools / name)
    with chain:
        assert chain.n_updates == 99 and chain.n_chains == 4
        fields, accepted = chain.phis().reshape(99, 4, 8, 8), chain.history("accepted")
    log_w = -pool.action - pool.log_q
    current = np.arange(4)
    u = np.log(Streams(1).child("accept").generator("accept").random((99, 4)))
    for update in range(99):
        fresh = 4 + 4 * update + np.arange(4)
        taken = u[update] < log_w[fresh] - log_w[current]
        current = np.where(taken, fresh, current)
        assert np.array_equal(taken, accepted[update])
        assert np.array_equal(fields[update], pool.phi[current])
    verify(pools / "chain.h5")


def test_a_path_proposal_keeps_its_path(pools):
    with accept([pools / "sde.h5"], pools / "chain.h5", n_warmup=3) as chain:
        assert chain.n_updates == 60 - 4 and chain.algorithm["refresh"] is False
        assert 0.5 < chain.history("accepted").mean() <= 1


@pytest.mark.parametrize("name", ["a.h5", "a.bin"])
def test_draws_are_used_once_and_in_order(pools, name):
    with accept([pools / name], pools / "one.h5", n=100, n_warmup=0) as chain:
        assert chain.n_updates == 99
    assert consumed(open_pool(pools / name)) == 100
    shutil.copy(pools / name, pools / f"copy-{name}")
    with accept([pools / name], pools / "two.h5", n_warmup=0) as chain:
        assert chain.n_updates == 299
    for path in (pools / name, pools / name):
        assert "all of its 400 draws have been used" in refusal(accept, [path], pools / "three.h5")
    assert consumed(open_pool(pools / f"copy-{name}")) == 100  # a copy tells it too
    with Ensemble(pools / "two.h5") as chain:
        first = chain.phis(0, 1)[0]
        assert any(np.array_equal(first, field) for field in rows(pools / name)[1].phi[100:102])


def test_pools_in_a_row_and_one_after_the_other_make_one_chain(pools):
    for name in ("a.h5", "b.bin"):
        shutil.copy(pools / name, pools / f"again-{name}")
    with accept([pools / "a.h5", pools / "b.bin"], pools / "whole.h5", n_chains=2) as whole:
        fields = whole.phis()
        assert len(whole.provenance.parents) == 2
    accept([pools / "again-a.h5"], pools / "part.h5", n_chains=2).close()
    with accept([pools / "again-b.bin"], pools / "part.h5", more=True) as part:
        assert part.n_updates == 400 - 11 and len(part.provenance.parents) == 3  # both pools, and the shorter chain
        assert np.array_equal(part.phis(), fields)
    assert "draws that are in" in refusal(accept, [pools / "a.bin"], pools / "part.h5", more=True)


def test_draws_of_another_theory_are_found_though_their_digest_is_right(pools):
    pool, found = rows(pools / "a.h5")
    for name, action in (("off.h5", found.action + 1), ("nan.bin", np.full_like(found.action, np.nan))):
        write_pool(pools / name, pool.header, iter([found._replace(action=action)]))
        assert "the action in it is not that of" in refusal(accept, [pools / name], pools / "chain.h5")
        assert not (pools / "chain.h5").exists() and consumed(open_pool(pools / name)) == 0


def test_no_draw_enters_a_chain_twice_whatever_file_it_comes_from(pools):
    """A copy of which others were used, and a longer pool of the stream, which begins with the same draws."""
    shutil.copy(pools / "a.h5", pools / "copy.h5")
    chain = pools / "chain.h5"
    accept([pools / "a.h5"], chain, n=300).close()
    accept([pools / "copy.h5"], pools / "elsewhere.h5", n=100).close()
    propose(L8, 500, pools / "longer.bin")
    for name in ("copy.h5", "longer.bin"):
        before = consumed(open_pool(pools / name))
        assert f"{name} holds draws that are in" in refusal(accept, [pools / name], chain, more=True)
        assert consumed(open_pool(pools / name)) == before
    accept([pools / "copy.h5"], pools / "elsewhere.h5", n=200, more=True).close()
    for name in ("copy.h5", "b.bin"):  # draws 300 to 399, and another stream
        accept([pools / name], chain, more=True).close()
    verify(chain)
    with Ensemble(chain) as whole:
        assert whole.n_updates == 300 - 11 + 100 + 400


def test_a_chain_that_is_not_made_gives_its_draws_back(pools, monkeypatch):
    def fail(*_, **__):
        raise OSError("the disk is gone")

    monkeypatch.setattr(accept_stage, "run_chain", fail)
    with pytest.raises(OSError, match="gone"):
        accept([pools / "a.h5"], pools / "chain.h5")
    assert consumed(open_pool(pools / "a.h5")) == 0
    monkeypatch.undo()
    accept([pools / "a.h5"], pools / "chain.h5").close()


def test_an_extension_that_fails_leaves_the_chain_as_it_was(pools, monkeypatch):
    accept([pools / "a.h5"], pools / "chain.h5").close()
    before = (pools / "chain.h5").read_bytes()
    monkeypatch.setattr("latticediff.pool.served.PoolProposal._checked", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        accept([pools / "b.bin"], pools / "chain.h5", more=True)
    assert (pools / "chain.h5").read_bytes() == before and not run_directory(pools / "chain.h5").exists()
    assert consumed(open_pool(pools / "b.bin")) == 0
    verify(pools / "chain.h5")


def test_what_does_not_belong_together_is_refused(pools):
    out = pools / "chain.h5"
    assert "hold the same draws (seed 1, stream 0)" in refusal(accept, [pools / "a.h5", pools / "a.bin"], out)
    assert "another proposal" in refusal(accept, [pools / "a.h5", pools / "sde.h5"], out)
    assert "was filled by model" in refusal(accept, [pools / "a.h5"], out, model="phi4-A-L16")
    assert "400 draws are left for 100 chains" in refusal(accept, [pools / "a.h5"], out, n_chains=100)
    assert "n_chains = 0" in refusal(accept, [pools / "a.h5"], out, n_chains=0)
    other = open_pool(pools / "a.h5")
    claim(other, 0, 5)
    assert "being used by another program" in refusal(claim, other, 0, 400)
    assert not out.exists() and not run_directory(out).exists()


def test_bad_orders_to_propose(tmp_path):
    assert "a pool is .h5" in refusal(propose, L8, 10, tmp_path / "pool.txt")
    assert "n = 0" in refusal(propose, L8, 0, tmp_path / "pool.h5")
    assert "stream = -1" in refusal(propose, L8, 5, tmp_path / "pool.h5", stream=-1)
    assert "no option 'step'" in refusal(propose, L8, 5, tmp_path / "pool.h5", options={"step": 3})
    assert "max-doubling" in refusal(propose, L8, 5, tmp_path / "p.h5", options={"steps": 2, "method": "rk4"})
    (tmp_path / "there.h5").touch()
    assert "exists" in refusal(propose, L8, 5, tmp_path / "there.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["there.h5"]


def test_damage_is_found_before_a_draw_is_used(pools):
    out = pools / "chain.h5"
    with h5py.File(pools / "a.h5", "r+") as file:
        file["phi"][3, 2, 2] *= 1.0001
    assert "not those that were written" in refusal(accept, [pools / "a.h5"], out)
    whole = (pools / "a.bin").read_bytes()
    damages = {
        "cut": whole[:-8],
        "header cut": whole[:300],
        "a number": whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:],
        "the count": whole.replace(b"consumed 0", b"consumed -"),
        "n": whole.replace(b"\nn 400", b"\nn 4x0"),
        "shape": whole.replace(b"shape 8 8", b"shape 8 0"),
        "json": whole.replace(b'action {"', b'action ["'),
        "other": b"latticediff-pool 9" + whole[18:],
        "nothing": b"",
        "text": b"hello",
    }
    for data in damages.values():
        (pools / "bad.bin").write_bytes(data)
        assert "bad.bin" in refusal(accept, [pools / "bad.bin"], out)
    for name, change in {
        "schema": lambda f: f.attrs.__setitem__("schema", "else"),
        "n": lambda f: f.__delitem__("log_q"),
        "shape": lambda f: f.attrs.__setitem__("shape", [8, 9]),
        "seed": lambda f: f.attrs.__setitem__("seed", "x"),
        "lost": lambda f: f.attrs.__delitem__("model"),
    }.items():
        shutil.copy(pools / "sde.h5", pools / f"{name}.h5")
        with h5py.File(pools / f"{name}.h5", "r+") as file:
            change(file)
        assert f"{name}.h5" in refusal(accept, [pools / f"{name}.h5"], out)
    assert "does not exist" in refusal(accept, [pools / "nowhere.h5"], out)
    assert not out.exists()


def test_the_commands(tmp_path, capsys):
    run("propose", L8, "--n", "120", "--out", tmp_path / "p.bin", "--seed", "3", "--quiet")
    assert "120 draws on 8x8 of phi4-A-L8" in capsys.readouterr().out
    for command, said in (("info", "120, 0 of them used"), ("verify", "120 draws, 0 of them used, stored action")):
        run(command, tmp_path / "p.bin")
        assert said in capsys.readouterr().out
    run("accept", tmp_path / "p.bin", "--out", tmp_path / "c.h5", "--quiet")
    assert "109 updates of 1 chains, acceptance" in capsys.readouterr().out
    run("accept", tmp_path / "p.bin", "--out", tmp_path / "d.h5", code=2)
    assert "have been used" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["npy", "npz", "h5", "raw", "ours", "last", "pattern"])
def test_given_fields_of_any_file_are_weighed(made, tmp_path, form, capsys):
    _, pool = rows(made / "a.h5")
    phi, path, reading = pool.phi[:30], tmp_path / f"fields.{form}", ()
    if form == "npy":
        np.save(path, phi)
    elif form == "last":
        path, reading = tmp_path / "last.npy", ("--axis", "last")
        np.save(path, np.moveaxis(phi, 0, -1))
    elif form == "pattern":
        path, reading = tmp_path / "each.h5", ("--dataset", "cfg_*")
        with h5py.File(path, "w") as file:
            for number, one in enumerate(phi):
                file[f"cfg_{number}"] = one
    elif form == "npz":
        np.savez(path, phi=phi, action=pool.action[:30])
    elif form == "h5":
        with h5py.File(path, "w") as file:
            file["cfgs"] = phi
    elif form == "raw":
        phi.astype("<f8").tofile(path)
    else:
        path = tmp_path / "ours.h5"
        latticediff.ensemble.save_ensemble(path, phi, action=latticediff.load(L8).action)
    run("weigh", "--model", L8, "--fields", path, "--out", tmp_path / "w.npz", "--quiet", *reading)
    assert "30 configurations weighed by the ode route" in capsys.readouterr().out
    found = np.load(tmp_path / "w.npz")
    assert np.allclose(found["log_q"], pool.log_q[:30], atol=1e-3) and np.array_equal(found["action"], pool.action[:30])
    assert np.array_equal(found["log_weight"], -found["action"] - found["log_q"])


def test_fields_that_cannot_be_weighed(tmp_path, capsys):
    out = tmp_path / "w.npz"
    np.save(tmp_path / "small.npy", np.zeros((3, 4, 4)))
    assert "expected (n, 8, 8)" in refusal(weigh_fields, L8, tmp_path / "small.npy", out)
    np.save(tmp_path / "nan.npy", np.full((3, 8, 8), np.nan))
    assert "not finite" in refusal(weigh_fields, L8, tmp_path / "nan.npy", out)
    np.save(tmp_path / "complex.npy", np.zeros((3, 8, 8), complex))
    assert "complex" in refusal(weigh_fields, L8, tmp_path / "complex.npy", out)
    phi = np.random.default_rng(1).standard_normal((5, 8, 8))
    np.savez(tmp_path / "other.npz", phi=phi, action=latticediff.Phi4.A(-3.0, 5.0)(phi))
    assert "stored action is not that of" in refusal(weigh_fields, L8, tmp_path / "other.npz", out)
    for number, action in enumerate((np.zeros(4), np.zeros(6), np.zeros((5, 1)))):
        np.savez(tmp_path / f"{number}.npz", phi=phi, action=action)
        said = refusal(weigh_fields, L8, tmp_path / f"{number}.npz", out)
        assert f"5 configurations and values of the action of shape {action.shape}" in said
    propose(L8, 400, tmp_path / "pool.bin")
    assert "pool.bin is a pool of draws" in refusal(weigh_fields, L8, tmp_path / "pool.bin", out)
    assert "cannot be asked" in refusal(weigh_fields, L8, tmp_path / "small.npy", out, dtype="<f4")
    run("weigh", "--model", L8, "--out", out, code=2)
    run("weigh", "--model", L8, "--out", out, "--fields", tmp_path / "small.npy", "--all", code=2)
    run("weigh", "--model", L8, "--out", out, "--dtype", "<f8", code=2)
    said = capsys.readouterr().err.splitlines()
    assert "expected CARD" in said[0] and "--all does not go with --fields" in said[1] and "--dtype is of" in said[2]
    assert not out.exists()


def test_an_order_to_stop_gives_the_draws_back(pools, monkeypatch):
    monkeypatch.setattr(accept_stage, "BLOCK", 20)
    reason = type("Reason", (str,), {"exit_code": 143})("signal 15")
    calls = iter([None, reason, reason])
    with pytest.raises(StopRequested, match="given back") as caught:
        accept([pools / "a.h5"], pools / "chain.h5", n_chains=2, n_warmup=0, stop=lambda: next(calls))
    assert caught.value.exit_code == 143
    assert consumed(open_pool(pools / "a.h5")) == 0 and not run_directory(pools / "chain.h5").exists()


@pytest.mark.parametrize("name", ["a.bin", "sde.h5"])
def test_bytes_changed_at_random_are_found_or_change_nothing(pools, name):
    """In the header: one line, or the same draws."""
    whole, rng = (pools / name).read_bytes(), np.random.default_rng(7)
    expected = rows(pools / name)[1]
    end = 4096 if name.endswith("bin") else len(whole) - 8 * 60 * 66
    refused = 0
    for _ in range(150):
        data = bytearray(whole)
        for at in rng.integers(0, end, 3):
            data[at] = rng.integers(256)
        (pools / "bad").write_bytes(data)
        try:
            pool = open_pool(pools / "bad")
            try:
                require_digest(pool)
                found = pool.rows(0, pool.header.n)
                assert np.array_equal(found.phi, expected.phi) and np.array_equal(found.log_q, expected.log_q)
                consumed(pool)
            finally:
                pool.close()
        except UserError as exc:
            assert "\n" not in str(exc)
            refused += 1
    assert refused > 10


@pytest.mark.parametrize("name", ["a.h5", "sde.h5", "b.bin"])
def test_info_and_verify_know_pools(pools, name):
    assert "is sound" in verify_file(pools / name)
    told = info(pools / name)
    assert "pool of weighed draws" in told and "phi4-A-L8, " in told
    assert ("hidden path" in told) == name.startswith("sde")
    data = bytearray((pools / name).read_bytes())
    data[data.find(rows(pools / name)[1].phi[5].tobytes())] ^= 1
    (pools / name).write_bytes(data)
    assert "not those that were written" in refusal(verify_file, pools / name)


# --- several streams, shared by processes


def test_pools_do_not_depend_on_who_fills_them(tmp_path):
    """Two processes, one, and every stream by itself: the same draws; the same command keeps what is there."""
    run("propose", L8, "--n", 300, "--streams", 3, "--jobs", 2, "--out", tmp_path / "two.h5", "--quiet")
    alone = []
    for k in range(3):
        propose(L8, 300, tmp_path / f"alone-{k}.h5", stream=k)
        alone.append(rows(tmp_path / f"alone-{k}.h5")[0].data_sha256)
    assert [rows(tmp_path / f"two-{k}.h5")[0].data_sha256 for k in range(3)] == alone and len(set(alone)) == 3
    when = (tmp_path / "two-1.h5").stat().st_mtime_ns
    (tmp_path / "two-2.h5").unlink()
    assert propose_many(L8, 300, tmp_path / "two.h5", 3) == [tmp_path / f"two-{k}.h5" for k in range(3)]
    assert rows(tmp_path / "two-2.h5")[0].data_sha256 == alone[2]
    assert (tmp_path / "two-1.h5").stat().st_mtime_ns == when


def test_pools_of_another_kind_are_not_taken_for_these(tmp_path, capsys):
    propose(L8, 300, tmp_path / "a-1.h5", stream=1)
    with pytest.raises(FileError, match=r"a-1.h5 is a pool of another n; choose another --out"):
        propose_many(L8, 400, tmp_path / "a.h5", 2)
    with pytest.raises(UserError, match="jobs is 0"):
        propose_many(L8, 400, tmp_path / "b.h5", 2, jobs=0)
    with pytest.raises(UserError, match="streams = 0"):
        propose_many(L8, 400, tmp_path / "b.h5", 0)
    run("propose", L8, "--jobs", 2, "--out", tmp_path / "b.h5", code=2)
    assert "say --streams" in capsys.readouterr().err


def test_a_stop_keeps_whole_pools(tmp_path):
    asked = iter(range(100))
    with pytest.raises(StopRequested, match="whole pools are kept"):
        propose_many(L8, 300, tmp_path / "a.h5", 3, stop=lambda: StopReason("told", 75) if next(asked) == 1 else None)
    assert [path.name for path in tmp_path.glob("*.h5")] == ["a-0.h5"]
