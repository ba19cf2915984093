"""Deep networks: convolutions on any lattice, symmetries, exact traces, exact proposals, model files, cards.

Identities are compared in float64. Statistical tests use five standard errors: a correct code fails one number with
probability 6e-7.
"""

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from learned_toys import FREE, QUARTIC, model, normal, some_propagator
from numpy.testing import assert_allclose, assert_array_equal

from latticediff import registry
from latticediff.action import Phi4
from latticediff.build.network import _start_from, check_network
from latticediff.config import parse_card
from latticediff.diffusion.ladder import NoiseRange
from latticediff.errors import CardError, ModelError, UserError
from latticediff.gaussian.baseline import implicit_baseline
from latticediff.gaussian.reference import GaussianReference
from latticediff.model.score_model import ScoreModel
from latticediff.model.storage import load_model, save_model
from latticediff.networks.deep.convolution import PeriodicConvolution
from latticediff.networks.deep.divergence import trunk_trace
from latticediff.networks.deep.network import N_OUTPUT, DeepNetwork
from latticediff.networks.deep.unet import smooth
from latticediff.proposal import OdeProposal, SdeProposal
from latticediff.targets.objectives import coloured_probes, full_jacobian
from latticediff.training import Task, Trainer, TrainingData, TrainingPlan

KINDS = ("residual", "unet")
SHAPES = [(7,), (1,), (4, 6), (3, 5), (2, 3, 4), (2, 2, 3, 2)]
SMALL = {"residual": {"channels": 3, "depth": 1}, "unet": {"channels": 2, "levels": 1}}
N_SIGMA = 5


def network(kind, ndim, strength=0.3, seed=0, **options):
    """A small deep network whose last convolution is random; strength 0 leaves the baseline."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = registry.load("networks", kind)(ndim, hidden=8, **{**SMALL[kind], **options})
        torch.nn.init.normal_(made.write.weight, std=strength)
    return made


def gaussian(shape, lam=6.008):
    return GaussianReference(Phi4.A(-4.0, lam, len(shape)), some_propagator(shape), dtype=torch.float64)


def deep_model(kind, action, shape, strength=0.3, sigmas=(0.05, 4.0), **options):
    found = model(action, shape, 0.0, sigmas)
    made = network(kind, len(shape), strength, **options)
    return ScoreModel(made, found.gaussian, found.noise, found.power_grid, found.power)


def every(*axes):
    return pytest.mark.parametrize("kind,shape", list(itertools.product(KINDS, axes or SHAPES)))


LEVELS = torch.tensor([-1.1, 0.4], dtype=torch.float64)


# --- convolutions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape,dilation", [((5,), 1), ((1, 2), 1), ((4, 3), 2), ((2, 3, 4), 3), ((2, 1, 3, 2), 1)])
@pytest.mark.parametrize("symmetric", [False, True])
def test_convolution_is_the_sum_over_its_taps(shape, dilation, symmetric):
    torch.manual_seed(0)
    convolution = PeriodicConvolution(len(shape), 2, 3, 3, dilation, symmetric).double()
    h, axes = normal((2, 2, *shape), 1), tuple(range(2, 2 + len(shape)))
    kernel, total = convolution.kernel(), 0.0
    for tap in itertools.product(range(3), repeat=len(shape)):
        moved = torch.roll(h, tuple(-dilation * (t - 1) for t in tap), axes)
        total = total + torch.einsum("oi,ni...->no...", kernel[(slice(None), slice(None), *tap)], moved)
    torch.testing.assert_close(convolution(h), total, rtol=1e-12, atol=1e-12)


def test_convolution_ties_the_taps_of_an_orbit():
    counts = {1: 2, 2: 3, 3: 4, 4: 5}  # centre, edge, corner, ...
    for ndim, orbits in counts.items():
        assert PeriodicConvolution(ndim, 1, 1, symmetric=True).weight.shape[2] == orbits
        assert PeriodicConvolution(ndim, 1, 1).weight.shape[2] == 3**ndim
    kernel = PeriodicConvolution(2, 1, 1, kernel_size=5, symmetric=True).kernel()
    torch.testing.assert_close(kernel, kernel.transpose(-1, -2).flip(-1), rtol=0, atol=0)


def test_smoothing_keeps_the_mean_and_removes_the_checkerboard():
    h = normal((1, 1, 4, 6), 0)
    torch.testing.assert_close(smooth(h, 1).mean(), h.mean())
    checkerboard = torch.tensor([[1.0, -1.0] * 3, [-1.0, 1.0] * 3] * 2)[None, None]
    assert smooth(checkerboard, 1).abs().max() == 0
    torch.testing.assert_close(smooth(checkerboard, 2), checkerboard)


# --- symmetries ------------------------------------------------------------------------------------------------------


@every()
def test_untrained_network_is_the_baseline(kind, shape):
    bg, net = gaussian(shape), network(kind, len(shape), 0.0).double()
    x = normal((2, *shape), 1)
    R, trace = net(bg, x, LEVELS, trace=True)
    W, C = bg.posterior(bg.expand((2 * LEVELS).exp()))
    linear, local, total = implicit_baseline(bg, bg.to_modes(x), W, C, trace=True)
    torch.testing.assert_close(R, bg.from_modes(linear) + local, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(trace, total, rtol=1e-12, atol=1e-12)


@every()
def test_residual_commutes_with_every_translation_and_the_sign(kind, shape):
    bg, net = gaussian(shape), network(kind, len(shape)).double()
    x = normal((2, *shape), 2)
    R, _ = net(bg, x, LEVELS)
    for axis, extent in enumerate(shape):
        for shift in range(1, extent):  # by single sites too, where striding would show
            moved, _ = net(bg, torch.roll(x, shift, axis + 1), LEVELS)
            torch.testing.assert_close(moved, torch.roll(R, shift, axis + 1), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(net(bg, -x, LEVELS)[0], -R, rtol=1e-12, atol=1e-12)


def strided(h):
    """What the U-net avoids: every second site, and back by repetition."""
    return h[..., ::2].repeat_interleave(2, -1)


@pytest.mark.parametrize("coarse,keeps", [(lambda h: smooth(h, 1), True), (strided, False)])
def test_striding_would_break_translations(coarse, keeps):
    """What the test above guards, at the one operation that could fail it."""
    h = normal((1, 1, 8), 3)
    difference = coarse(torch.roll(h, 1, -1)) - torch.roll(coarse(h), 1, -1)
    assert bool(difference.abs().max() < 1e-12) is keeps


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(6, 6), (4, 6), (3, 3, 3)])
@pytest.mark.parametrize("symmetric", [False, True])
def test_only_a_symmetric_network_commutes_with_the_point_group(kind, shape, symmetric):
    bg, net = gaussian(shape), network(kind, len(shape), symmetric=symmetric).double()
    x = normal((2, *shape), 4)
    R, _ = net(bg, x, LEVELS)
    elements = {"reflection": lambda f: f.flip(1)}
    if shape[0] == shape[1]:  # unequal extents: reflections are what is left
        elements["permutation"] = lambda f: f.transpose(1, 2)
        elements["rotation"] = lambda f: f.transpose(1, 2).flip(1)
    for name, act in elements.items():
        difference = (net(bg, act(x), LEVELS)[0] - act(R)).abs().max() / R.abs().max()
        assert (difference < 1e-10) if symmetric else (difference > 1e-3), name


# --- exact traces ----------------------------------------------------------------------------------------------------


def trace_by_jacobian(bg, net, x, levels):
    """``tr(C dR/dx)`` from V backward passes through everything, filters and baseline included."""

    def C_times_R(field, sigma):
        _, C = bg.posterior(bg.expand(sigma**2))
        return bg.filter(net(bg, field, sigma.log())[0], C)

    return full_jacobian(C_times_R, x, levels.exp())


# the last three are large enough that colours are fewer than sites
@every((7,), (1,), (4, 6), (2, 3, 4), (2, 2, 3, 2), (31,), (15, 2), (30,))
@pytest.mark.parametrize("method", ["full", "coloured"])
def test_trace_is_that_of_the_full_jacobian(kind, shape, method):
    bg, net = gaussian(shape), network(kind, len(shape)).double()
    x = normal((2, *shape), 5)
    _, trace = net(bg, x, LEVELS, trace=method)
    exact = trace_by_jacobian(bg, net, x, LEVELS)
    torch.testing.assert_close(trace, exact, rtol=1e-11, atol=1e-11)
    _, baseline = network(kind, len(shape), 0.0).double()(bg, x, LEVELS, trace=True)
    assert ((trace - baseline).abs() > 1e-3 * trace.abs()).all()  # the network has a part in it


def test_passes_are_counted_and_the_cheaper_method_is_taken():
    net = network("residual", 1)
    assert net.reach == 3
    assert net.passes(gaussian((31,))) == {"full": 31, "coloured": 2 * 8}
    assert net.passes(gaussian((13,))) == {"full": 13, "coloured": 2 * 13}
    assert network("unet", 1).reach == 7
    assert network("unet", 1, levels=2).reach == 15
    assert network("residual", 4).passes(gaussian((2, 2, 3, 2)))["full"] == 24


@pytest.mark.parametrize("kind", KINDS)
def test_coloured_trace_needs_the_whole_reach(kind):
    """What makes the coloured trace exact: with a smaller reach it is wrong, and a trunk feels as far as it says."""
    shape = (64,)
    bg, net = gaussian(shape), network(kind, 1).double()
    x = normal((1, *shape), 6)
    exact = net(bg, x, LEVELS[:1], trace="full")[1]
    v = bg.expand((2 * LEVELS[:1]).exp())
    W, C = bg.posterior(v)
    inner, outer = net.filters(bg, v, W)
    u = bg.from_modes(bg.to_modes(x)[:, None] * inner).requires_grad_(True)
    out = net.trunk(u, net.embed(bg, LEVELS[:1]))
    (seen,) = torch.autograd.grad(out[0, 0, 0], u, retain_graph=True)
    sites = seen[0].abs().sum(0).nonzero().flatten()
    distance = torch.minimum(sites, 64 - sites)
    assert int(distance.max()) == net.reach
    part = [trunk_trace(bg, u, out, inner, outer, C, reach, "coloured") for reach in (net.reach, net.reach - 1)]
    whole = trunk_trace(bg, u, out, inner, outer, C, net.reach, "full")
    assert abs(part[0] - whole) < 1e-12 * abs(exact)
    assert abs(part[1] - whole) > 1e-9 * abs(exact)


def test_colouring_the_whole_score_is_not_exact():
    """Why the filters stay outside of the passes: C R reaches across the lattice, whatever the trunk does."""
    bg, net = gaussian((64,)), network("residual", 1).double()
    x = normal((1, 64), 7)

    def C_times_R(field, sigma):
        _, C = bg.posterior(bg.expand(sigma**2))
        return bg.filter(net(bg, field, sigma.log())[0], C)

    exact = net(bg, x, LEVELS[1:], trace="coloured")[1]
    naive = coloured_probes(C_times_R, x, LEVELS[1:].exp(), reach=2 * net.reach)
    assert abs(naive - exact) > 1e-6 * abs(exact)


@pytest.mark.parametrize("kind", KINDS)
def test_trace_can_be_trained_through(kind):
    bg, net = gaussian((2, 3)), network(kind, 2).double()
    x = normal((2, 2, 3), 8)
    gradients = []
    for trace in (
        net(bg, x, LEVELS, "full")[1],
        net(bg, x, LEVELS, "coloured")[1],
        trace_by_jacobian(bg, net, x, LEVELS),
    ):
        gradients.append(torch.autograd.grad(trace.sum(), net.read.weight)[0])
    assert gradients[2].abs().max() > 1e-4
    for gradient in gradients[:2]:
        torch.testing.assert_close(gradient, gradients[2], rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        R, trace = net(bg, x, LEVELS, trace=True)
    assert not R.requires_grad and not trace.requires_grad


def test_unknown_trace_is_refused():
    with pytest.raises(UserError, match=r"trace is 'ful' \(did you mean 'full'\?\); expected full or coloured"):
        network("residual", 1).double()(gaussian((4,)), normal((1, 4), 0), LEVELS[:1], trace="ful")


# --- conditioning ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("conditioned", [False, True])
def test_only_a_conditioned_trunk_depends_on_the_couplings(kind, conditioned):
    net = network(kind, 2, conditioned=conditioned).double()
    low, high = gaussian((4, 4), 4.5), gaussian((4, 4), 6.0)
    u = normal((1, 3, 4, 4), 9)
    trunks = [net.trunk(u, net.embed(bg, LEVELS[:1])) for bg in (low, high)]
    assert torch.equal(*trunks) is not conditioned


# --- proposals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_log_q_is_the_jacobian_of_the_map(kind):
    """Change of variables of the discrete map, by differences; wrong without the network's part of the trace."""
    found = deep_model(kind, Phi4.A(-4.0, 6.008, 1), (4,), 0.1)
    found.network.double()
    found.gaussian = found.gaussian.to(dtype=torch.float64)
    y = normal((1, 4), 10)

    # all shifted copies at once: central differences
    step, shifts = 1e-5, torch.eye(4, dtype=torch.float64)
    several = torch.cat([y, y + step * shifts, y - step * shifts])

    def log_q(flow):
        phi, told = flow.down(several)
        _, log_det = torch.linalg.slogdet((phi[1:5] - phi[5:]) / (2 * step))
        return float(told[0]), float(-0.5 * (y**2).sum() - 2 * np.log(2 * np.pi) - log_det)

    flow = OdeProposal(found, steps=24).flow
    told, exact = log_q(flow)
    assert told == pytest.approx(exact, abs=1e-4)
    bare = flow.network
    flow.network = lambda *args, trace: (bare(*args)[0], torch.zeros(1, dtype=torch.float64))
    assert abs(log_q(flow)[0] - exact) > 0.01


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("route", ["ode", "sde"])
def test_weights_of_a_bad_network_average_to_z_of_the_free_field(kind, route):
    found = deep_model(kind, FREE, (2, 2), 0.1)
    proposal = OdeProposal(found, steps=12) if route == "ode" else SdeProposal(found, steps=6)
    draw = proposal.draw(256, np.random.default_rng(11))
    weight = np.exp(-FREE(draw.phi) - draw.log_q - log_z((2, 2)))
    assert weight.std() > 0.01  # the network is bad
    assert abs(weight.mean() - 1) < N_SIGMA * weight.std() / 16


def log_z(shape):
    return 0.5 * np.log(2 * np.pi * model(FREE, shape, 0.0).gaussian.propagator_full.numpy()).sum()


@pytest.mark.parametrize("kind", KINDS)
def test_flow_inverts_and_weighs_what_it_drew(kind):
    found = deep_model(kind, QUARTIC, (2, 4), 0.05)
    proposal = OdeProposal(found, steps=12)
    draw = proposal.draw(4, np.random.default_rng(12))
    assert_allclose(proposal.weigh(draw.phi), draw.log_q, atol=5e-3)


@pytest.mark.parametrize("kind,cuts", [(OdeProposal, [(1, 3), (1, 1)]), (SdeProposal, [(1, 3), (2, 1), (2, 8)])])
def test_bits_depend_on_neither_batch_nor_threads(kind, cuts):
    found = deep_model("residual", QUARTIC, (2, 4))
    draws = []
    for threads, batch in [(1, 8), *cuts]:
        torch.set_num_threads(threads)
        draws.append(kind(found, steps=2, batch=batch).draw(5, np.random.default_rng(13)))
    torch.set_num_threads(1)
    for draw in draws[1:]:
        assert_array_equal(draw.phi, draws[0].phi)
        assert_array_equal(draw.log_q, draws[0].log_q)


def test_dear_divergence_is_refused_unless_asked_for():
    found = deep_model("residual", QUARTIC, (12, 12))
    with pytest.raises(UserError, match=r"'residual' has no .* on 12x12 an exact one costs 144 .* use route sde or"):
        OdeProposal(found)
    assert OdeProposal(found, trace="full").describe()["trace"] == "full"
    assert OdeProposal(deep_model("residual", QUARTIC, (8, 8))).trace == "full"
    assert SdeProposal(found, steps=3).draw(2, np.random.default_rng(0)).phi.shape == (2, 12, 12)
    with pytest.raises(UserError, match="network 'residual' knows auto, full, coloured"):
        OdeProposal(found, trace="random")
    ridge = model(QUARTIC, (4, 4), 0.1)
    assert "trace" not in OdeProposal(ridge).describe()
    with pytest.raises(UserError, match="'ridge' has a closed-form divergence; leave trace out"):
        OdeProposal(ridge, trace="full")


def test_doubled_proposal_keeps_the_trace():
    assert OdeProposal(deep_model("unet", QUARTIC, (4, 4)), trace="coloured").doubled().trace == "coloured"


def test_fields_that_blow_up_have_weight_zero():
    found = deep_model("residual", QUARTIC, (4, 4))
    found.network.write.weight.data.fill_(1e30)
    draw = OdeProposal(found, steps=2).draw(2, np.random.default_rng(0))
    assert np.all(draw.log_q == np.inf)


class Cubes(DeepNetwork):
    """Somebody else's network: cubes of neighbours, which needs no more than a trunk and its reach."""

    name, reach = "cubes", 1

    def trunk(self, u, e):
        return sum(torch.roll(u[:, :N_OUTPUT], shift, -1) ** 3 for shift in (-1, 1))


def test_a_trunk_and_its_reach_make_a_network():
    bg, net, x = gaussian((9,)), Cubes(1, 4, False).double(), normal((2, 9), 17)
    for method in ("full", "coloured"):
        torch.testing.assert_close(net(bg, x, LEVELS, method)[1], trace_by_jacobian(bg, net, x, LEVELS))


# --- training, files, cards ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_training_lowers_the_loss(kind):
    phis = np.random.default_rng(14).normal(size=(512, 4, 4)) + 0.8 * np.sign(
        np.random.default_rng(15).normal(size=(512, 1, 1))
    )
    bg = GaussianReference(QUARTIC, 1 / (1 / some_propagator((4, 4)) + 1.0))
    plan = TrainingPlan(steps=60, batch=64, learning_rate=1e-2, warmup=5, target="mixed")
    trainer = Trainer(network(kind, 2, 0.0), Task(bg, TrainingData(phis)), NoiseRange(0.1, 2.0), plan)
    before = trainer.held_out_loss()
    trainer.run()
    assert trainer.held_out_loss() < 0.9 * before


@pytest.mark.parametrize("kind", KINDS)
def test_model_file_gives_back_the_network(kind, tmp_path):
    options = {"symmetric": True, "conditioned": True, "kernel_size": 5}
    found = deep_model(kind, QUARTIC, (4, 4), **options)
    save_model(found, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert loaded.network.describe() == found.network.describe()
    assert loaded.fingerprint() == found.fingerprint()
    x, level = normal((1, 4, 4), 16).float(), torch.zeros(1)
    assert torch.equal(loaded.network(loaded.gaussian, x, level)[0], found.network(found.gaussian, x, level)[0])


def test_model_of_another_architecture_or_dimension_is_refused(tmp_path):
    save_model(deep_model("residual", QUARTIC, (4, 4)), tmp_path / "model")
    with pytest.raises(ModelError, match=r"the card asks for 2 dimensions and \{'name': 'unet'"):
        _start_from(network("unet", 2), tmp_path / "model")
    with pytest.raises(ModelError, match=r"holds a 2-dimensional network .* the card asks for 3 dimensions"):
        _start_from(network("residual", 3), tmp_path / "model")
    with pytest.raises(ModelError, match="was trained for"):
        load_model(tmp_path / "model", action=Phi4.A(-4.0, 6.008, 3))
    card = tmp_path / "model" / "card.toml"
    text = re.sub("^card_sha256 = .*\n", "", card.read_text(), flags=re.MULTILINE)  # as before cards had a digest
    card.write_text(text.replace("channels = 3", "channels = 4"))
    with pytest.raises(ModelError, match="card and weights do not belong together"):
        load_model(tmp_path / "model")
    card.write_text(
        text.replace('name = "residual"\nchannels = 3\ndepth = 1', 'name = "unet"\nchannels = 3\nlevels = 1')
    )
    with pytest.raises(ModelError, match="card and weights do not belong together"):
        load_model(tmp_path / "model")


CARD = """
[action]
convention = "A"
m2 = -4.0
lam = 6.0
[lattice]
shape = [8, 8]
[network]
"""


def test_card_fills_in_the_options():
    card = parse_card(CARD + 'name = "unet"\nlevels = 3')
    assert card.network.options == {
        "kernel_size": 3, "hidden": 64, "symmetric": False, "conditioned": False, "channels": 8, "levels": 3
    }  # fmt: skip
    for name in KINDS:
        options = parse_card(f'{CARD}name = "{name}"').network.options
        made = registry.load("networks", name)(2, **options)
        assert made.describe() == {"name": name, **options}
        assert made.describe() == registry.load("networks", name)(2).describe()  # one set of defaults


@pytest.mark.parametrize(
    "text,message",
    [
        ('name = "residual"\ndept = 3', r"dept.*did you mean 'depth'"),
        ('name = "residual"\nchannels = 0', r"network.channels.* greater than or equal to 1"),
        ('name = "unet"\nkernel_size = 4', r"network.kernel_size.*odd number"),
        ('name = "residual"\nsymmetric = 1', r"network.symmetric"),
        ('name = "resnet"', r"no network is called 'resnet' \(did you mean 'unet'\?\)"),
    ],
)
def test_card_refuses_impossible_options(text, message):
    with pytest.raises(CardError, match=message):
        parse_card(CARD + text)


def test_a_run_refuses_a_dear_divergence_before_it_begins():
    text = CARD.replace("[8, 8]", "[16, 16]") + 'name = "residual"'
    with pytest.raises(CardError, match=r"\[sampling.ode\] network 'residual' has no closed-form .* on 16x16"):
        check_network(parse_card(text))
    check_network(parse_card(text, ["sampling.ode.trace=full"]))
    check_network(parse_card(text, ["network.name=ridge"]))


def test_card_is_checked_without_torch():
    text = CARD + 'name = "unet"'
    code = f"import sys; from latticediff.config import parse_card; parse_card({text!r}); "
    subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], check=True)


@pytest.mark.parametrize(
    "kind,options,message",
    [
        ("residual", {"depth": 0}, "depth = 0; expected at least 1"),
        ("residual", {"kernel_size": 2}, "kernel_size is 2; expected an odd number"),
        ("unet", {"channels": 0}, "channels = 0; expected at least 1"),
    ],
)
def test_network_refuses_impossible_sizes(kind, options, message):
    with pytest.raises(UserError, match=message):
        network(kind, 2, **options)


@pytest.mark.slow
def test_benchmark_prints_its_rows():
    script = Path(__file__).parents[1] / "benchmarks" / "networks.py"
    small = "--json --L 4 --seconds 0.5 --configurations 1280 --repeats 1 --fields 8 --posterior 3 --proposals 16"
    done = subprocess.run([sys.executable, script, *small.split()], capture_output=True, text=True, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["network"] for row in found] == ["ridge", "residual", "unet"]
    for row in found:
        assert {"parameters", "ns_per_site", "held_out_loss", "ess_ode", "ess_sde"} <= row.keys()
        assert len(row["by_level"]) == 8
