"""Laws of the score room: closed-form divergence, symmetries, limits, denoising targets, model files.

Everything is compared in float64 unless a float32 kernel is the thing under test. Statistical tests use
five standard errors: a correct code fails one number with probability 6e-7.
"""

import functools
import math

import numpy as np
import pytest
import torch
from learned_toys import FREE, QUARTIC, SHAPE, model, network, normal, some_propagator
from safetensors.torch import load_file, save_file
from scipy.interpolate import CubicSpline

from latticediff.action import Phi4
from latticediff.diffusion.compiled import CompiledRidge
from latticediff.errors import FileError, ModelError, UserError
from latticediff.fourier import basis_from_momenta, momenta_from_basis, real_fourier
from latticediff.gaussian.baseline import implicit_baseline
from latticediff.gaussian.propagator import measured_propagator, symmetrise
from latticediff.gaussian.reference import GaussianReference
from latticediff.model.storage import load_model, save_model
from latticediff.networks.ridge.core import ridge_core
from latticediff.networks.ridge.fused import fused_core
from latticediff.targets.matching import denoising_loss, mixed_target

SHAPES = [(7,), (2,), (1,), SHAPE, (3, 5), (2, 3, 4)]
N_SIGMA = 5


def gaussian(shape, action=None):
    action = action or Phi4.A(-4.0, 6.008, len(shape))
    return GaussianReference(action, some_propagator(shape), dtype=torch.float64)


def double_network(shape, strength=0.7, **options):
    return network(len(shape), strength, **options).double()


def trace_by_jacobian(bg, residual, x, log_sigma):
    """``tr(C dR/dx)`` of one configuration from the full automatic Jacobian."""
    v = torch.exp(2 * log_sigma).reshape(-1, *([1] * bg.ndim))
    _, C = bg.posterior(v)
    jacobian = torch.autograd.functional.jacobian(lambda field: bg.filter(residual(field), C), x)
    return float(torch.trace(jacobian.reshape(bg.volume, bg.volume)))


# --- the ridge network -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("log_sigma", [-3.0, -0.4, 1.2])
def test_divergence_is_that_of_the_full_jacobian(shape, log_sigma):
    bg, net = gaussian(shape), double_network(shape)
    x, level = normal((2, *shape), 1), torch.tensor([log_sigma], dtype=torch.float64)
    _, trace = net(bg, x, level, trace=True)
    for one, closed in zip(x, trace.detach(), strict=True):
        exact = trace_by_jacobian(bg, lambda field: net(bg, field, level)[0], one[None], level)
        assert closed.item() == pytest.approx(exact, rel=1e-10, abs=1e-10)


def test_divergence_holds_for_wide_kernels_and_a_level_for_each_field():
    shape = (5, 6)
    bg, net = gaussian(shape), double_network(shape, kernel_size=5)
    x, levels = normal((3, *shape), 2), torch.tensor([-2.0, 0.1, 1.0], dtype=torch.float64)
    _, trace = net(bg, x, levels, trace=True)
    for i in range(3):
        level = levels[i : i + 1]
        exact = trace_by_jacobian(bg, lambda field, level=level: net(bg, field, level)[0], x[i : i + 1], level)
        assert trace[i].item() == pytest.approx(exact, rel=1e-10)


def test_divergence_needs_its_kappa():
    """What the two tests above guard: without the features' part the trace is off by more than a per cent."""
    bg, net = gaussian(SHAPE), double_network(SHAPE)
    x, level = normal((1, *SHAPE), 1), torch.tensor([-0.4], dtype=torch.float64)
    _, trace = net(bg, x, level, trace=True)
    _, baseline = network(2, 0.0).double()(bg, x, level, trace=True)
    assert abs((trace - baseline).item()) > 0.01 * abs(trace.item())


@pytest.mark.parametrize("shape", SHAPES)
def test_baseline_trace_is_that_of_the_full_jacobian(shape):
    bg = gaussian(shape)
    level = torch.tensor([-0.7], dtype=torch.float64)
    W, C = bg.posterior(torch.exp(2 * level).reshape(-1, *([1] * bg.ndim)))

    def residual(field):
        linear, local, _ = implicit_baseline(bg, bg.to_modes(field), W, C)
        return bg.from_modes(linear) + local

    x = 2 * normal((1, *shape), 3)
    trace = implicit_baseline(bg, bg.to_modes(x), W, C, trace=True)[2]
    assert float(trace) == pytest.approx(trace_by_jacobian(bg, residual, x, level), rel=1e-11)


@pytest.mark.parametrize("shape", [(7,), SHAPE, (2, 3, 4)])
def test_residual_commutes_with_translations_and_sign(shape):
    bg, net = gaussian(shape), double_network(shape)
    x, level = normal((2, *shape), 4), torch.tensor([-0.3], dtype=torch.float64)
    R, trace = net(bg, x, level, trace=True)
    shifts, axes = tuple(range(1, bg.ndim + 1)), tuple(range(-bg.ndim, 0))
    moved, moved_trace = net(bg, torch.roll(x, shifts, axes), level, trace=True)
    torch.testing.assert_close(moved, torch.roll(R, shifts, axes), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(moved_trace, trace, rtol=1e-11, atol=1e-11)
    flipped, flipped_trace = net(bg, -x, level, trace=True)
    torch.testing.assert_close(flipped, -R, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(flipped_trace, trace, rtol=1e-12, atol=1e-12)
    assert float((R - network(bg.ndim, 0.0).double()(bg, x, level)[0]).abs().max()) > 0.01  # the features take part


def test_untrained_network_is_the_baseline():
    bg, net = gaussian(SHAPE), network(2, 0.0).double()
    x, level = normal((2, *SHAPE), 6), torch.tensor([0.2], dtype=torch.float64)
    W, C = bg.posterior(torch.exp(2 * level).reshape(1, 1, 1))
    linear, local, _ = implicit_baseline(bg, bg.to_modes(x), W, C)
    torch.testing.assert_close(net(bg, x, level)[0], bg.from_modes(linear) + local, rtol=1e-13, atol=1e-13)


def test_baseline_becomes_the_force_as_noise_vanishes():
    """``R_0 - DF(x)`` is O(sigma^2)."""
    bg, x = gaussian(SHAPE), normal((2, *SHAPE), 7)
    net, errors = network(2, 0.0).double(), []
    for sigma in (1e-3, 1e-4):
        R, _ = net(bg, x, torch.tensor([math.log(sigma)], dtype=torch.float64))
        errors.append(float((R - bg.delta_force(x)).abs().max()))
    assert errors[1] < 1e-5 * float(bg.delta_force(x).abs().max())
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.1)


def test_baseline_grows_linearly_and_never_outruns_the_noise():
    """On one site ``R_0 -> x / (3 sigma^2)``: below x / sigma^2, where the denoiser would change sign."""
    bg, x = gaussian((1,)), torch.tensor([[1e4], [1e6]], dtype=torch.float64)
    for sigma in (0.05, 0.5, 5.0):
        _, local, _ = implicit_baseline(bg, bg.to_modes(x), *bg.posterior(torch.full((1, 1), sigma**2)))
        torch.testing.assert_close(local, x / (3 * sigma**2), rtol=1e-3, atol=0)


@pytest.mark.parametrize("options", [{"kernel_size": 2}, {"kernel_size": 0}, {"features": 1}, {"hidden": 0}])
def test_impossible_networks_are_refused(options):
    with pytest.raises(UserError, match="expected"):
        network(2, 0.0, **options)


# --- compiled twins --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1,), (7,), SHAPE, (3, 5), (17, 16), (2, 3, 4)])
def test_compiled_slope_is_the_float64_slope(shape):
    """(17, 16) has more than 256 sites: one configuration at a time instead of eight interleaved."""
    from latticediff.diffusion.flow import ProbabilityFlow

    bg, net = gaussian(shape), double_network(shape)
    y, levels = normal((3, *shape), 8), np.array([-2.5, 0.3])
    ridge, flow = CompiledRidge(net, bg, levels), ProbabilityFlow(net, bg, levels, None)
    for number, level in enumerate(levels):
        with torch.no_grad():
            exact, _ = flow.slope(y, level)
        compiled = ridge.transform(ridge.slope(ridge.transform(y.numpy()), number), inverse=True)
        scale = float(exact.abs().max())
        np.testing.assert_allclose(compiled, exact.numpy(), rtol=0, atol=2e-5 * scale)


@pytest.mark.parametrize("shape", [(5,), SHAPE, (20, 18), (2, 3, 4)])
def test_fused_core_has_the_values_and_gradients_of_autograd(shape):
    bg, net = gaussian(shape), network(len(shape), 0.7, features=7)
    levels = torch.tensor([-2.0, -0.5, 1.0])
    fields = normal((3, 3, bg.volume), 9, torch.float32)
    upstream = normal((3, 2, bg.volume), 10, torch.float32)
    gain_in, amplitudes, gain_out = (t.detach().requires_grad_() for t in net.coefficients(bg, levels))
    inputs, results = (net.A, gain_in, amplitudes, net.B, gain_out), []
    for fused in (True, False):
        if fused:
            out = fused_core(fields, *inputs, shape, net.offsets)
        else:
            kernels_in, kernels_out = net.kernels(gain_in, gain_out)
            out, _ = ridge_core(fields, kernels_in, amplitudes, kernels_out, net.taps(bg))
        gradients = torch.autograd.grad((out * upstream).sum(), inputs)
        results.append((out.detach(), *gradients))
    for fast, plain in zip(*results, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=2e-5 * float(plain.abs().max()))


# --- what is diagonal in momentum ------------------------------------------------------------------------------------


def dense(bg, multiplier):
    """A filter as its V x V matrix."""
    return bg.filter(torch.eye(bg.volume, dtype=torch.float64).reshape(-1, *bg.shape), multiplier).reshape(
        bg.volume, bg.volume
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_background_filters_are_the_matrices_they_stand_for(shape):
    bg, v = gaussian(shape), 0.37
    G, one = dense(bg, bg.G), torch.eye(bg.volume, dtype=torch.float64)
    W, C = (dense(bg, f) for f in bg.posterior(torch.tensor(v, dtype=torch.float64)))
    torch.testing.assert_close(C, torch.linalg.inv(torch.linalg.inv(G) + one / v), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(W, G @ torch.linalg.inv(G + v * one), rtol=1e-10, atol=1e-12)
    assert bg.half_log_det(v) == pytest.approx(0.5 * float(torch.logdet(G + v * one)), rel=1e-12)
    x = normal((2, *shape), 11)
    torch.testing.assert_close(bg.colour(bg.whiten(x, v), v), x, rtol=1e-12, atol=1e-12)
    assert float(bg.at_origin(bg.G)) == pytest.approx(float(bg.propagator_full.mean()), rel=1e-13)
    # DF = dS/dphi - G^-1 phi
    exact = -bg.action.force(x.numpy()) - (x.reshape(2, -1) @ torch.linalg.inv(G)).reshape(x.shape).numpy()
    np.testing.assert_allclose(bg.delta_force(x).numpy(), exact, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("bad", [-0.1, 0.0, math.nan])
def test_background_refuses_a_propagator_that_is_not_positive(bad):
    propagator = some_propagator(SHAPE).copy()
    propagator[1, 2] = bad
    with pytest.raises(UserError, match="not positive"):
        GaussianReference(QUARTIC, propagator)
    with pytest.raises(UserError, match="dimensions"):
        GaussianReference(QUARTIC, some_propagator((6,)))


@pytest.mark.parametrize("extent", [1, 2, 5, 6])
def test_real_fourier_basis_is_orthogonal(extent):
    basis = real_fourier(extent)
    np.testing.assert_allclose(basis @ basis.T, np.eye(extent), atol=1e-14)


@pytest.mark.parametrize("shape", [(1,), (5,), (6,), (4, 6), (3, 4, 5), (12, 13)])
def test_real_fourier_basis_has_the_power_of_the_plain_one(shape):
    """Functions even in each k come back from the basis; coefficients squared, folded, are |phi_k|^2 / V."""
    even = some_propagator(shape)
    np.testing.assert_allclose(momenta_from_basis(basis_from_momenta(even, shape), shape), even, rtol=1e-13)
    bg, phi = gaussian(shape), normal(shape, 12)
    modes = bg.to_modes(phi[None])[0].numpy()
    np.testing.assert_allclose(bg.from_modes(bg.to_modes(phi[None]))[0], phi, atol=1e-13)
    power = np.abs(np.fft.fftn(phi.numpy())) ** 2 / phi.numel()
    for axis in range(len(shape)):  # |phi_k|^2 is even in k only; the average over reflections is even in each k
        power = 0.5 * (power + np.roll(np.flip(power, axis), 1, axis))
    np.testing.assert_allclose(momenta_from_basis(modes**2, shape), power, rtol=1e-10, atol=1e-12)


def test_symmetrise_projects_on_the_symmetric_functions_of_k():
    noise = np.random.default_rng(13).normal(size=(4, 4, 3))
    once = symmetrise(noise)
    np.testing.assert_allclose(symmetrise(once), once, rtol=1e-13)
    np.testing.assert_allclose(once, once.transpose(1, 0, 2), rtol=1e-13)
    np.testing.assert_allclose(once, np.roll(np.flip(once, 2), 1, 2), rtol=1e-13)
    assert once.mean() == pytest.approx(noise.mean())
    symmetric = some_propagator((4, 4, 3))
    np.testing.assert_allclose(symmetrise(symmetric), symmetric, rtol=1e-13)


def test_measured_propagator_sums_to_phi_squared_however_it_is_read():
    phis = np.random.default_rng(14).normal(size=(20, *SHAPE))
    G = measured_propagator([phis], SHAPE)
    assert G.mean() == pytest.approx((phis**2).mean(), rel=1e-13)
    np.testing.assert_allclose(measured_propagator([phis[:3], phis[3:]], SHAPE), G, rtol=1e-13)


@pytest.mark.parametrize(
    ("phis", "message"),
    [
        (np.zeros((3, 4, 4)), "the lattice is"),
        (np.full((3, *SHAPE), np.nan), "not finite"),
        (np.zeros((1, *SHAPE)), "at least 2"),
    ],
)
def test_measured_propagator_refuses(phis, message):
    with pytest.raises(UserError, match=message):
        measured_propagator([phis], SHAPE)


# --- denoising score matching ----------------------------------------------------------------------------------------


def one_site(action, v, w0, x):
    """``E[T | x]`` of the mixed target and ``E[phi | x]`` on one site for every x (n,), by quadrature over phi."""
    phi, x = torch.linspace(-6, 6, 4001, dtype=torch.float64), torch.as_tensor(x, dtype=torch.float64)[:, None]
    bg = GaussianReference(action, [0.3], dtype=torch.float64)
    log_p = -torch.as_tensor(action(phi[:, None].numpy()))
    weight = torch.softmax(log_p - (x - phi) ** 2 / (2 * v), 1)
    z = ((x - phi) / math.sqrt(v)).reshape(-1, 1)
    variance = torch.full((1, 1), v, dtype=torch.float64)
    target = mixed_target(bg, phi.repeat(len(x))[:, None], z, variance, w0).reshape(weight.shape)
    return (weight * target).sum(1).numpy(), (weight * phi).sum(1).numpy()


@pytest.mark.parametrize("v", [0.01, 0.5, 4.0])
def test_every_mixture_of_targets_has_the_posterior_mean_of_the_force(v):
    """E[DF | x] = E[z / sigma - phi / G | x], by quadrature, and the denoiser is C (x / v - R)."""
    action, x = Phi4.A(-3.0, 1.0, 1), np.array([-1.3, 0.4, 2.0])
    (R, mean), *others = (one_site(action, v, w0, x) for w0 in (0.0, 0.2, 30.0, 1e12))
    for other, _ in others:
        np.testing.assert_allclose(other, R, rtol=1e-9, atol=1e-9)
    C = 1 / (1 / 0.3 + 1 / v)
    np.testing.assert_allclose(mean, C * (x / v - R), rtol=1e-9)


def test_mixture_of_targets_sees_a_wrong_force():
    """What the test above guards: the noise target of one theory is not the mean force of another."""
    phi = torch.linspace(-6, 6, 4001, dtype=torch.float64)
    right, wrong = Phi4.A(-3.0, 1.0, 1), Phi4.A(-3.0, 1.1, 1)
    weight = torch.softmax(-torch.as_tensor(right(phi[:, None].numpy())) - (0.4 - phi) ** 2, 0)
    bg = GaussianReference(wrong, [0.3], dtype=torch.float64)
    z = ((0.4 - phi) / math.sqrt(0.5))[:, None]
    force, noise = (mixed_target(bg, phi[:, None], z, torch.full((1, 1), 0.5), w0)[:, 0] for w0 in (0.0, 1e12))
    assert abs(float((weight * (force - noise)).sum())) > 0.01


def test_denoising_is_explicit_score_matching_up_to_a_constant():
    """Vincent 2011: on one site by quadrature, DSM(R) - DSM(0) = E|C (R - R*)|^2 / v - E|C R*|^2 / v, R* = E[T | x]."""
    action, v = Phi4.A(-3.0, 1.0, 1), 0.4
    bg, net = GaussianReference(action, [0.3], dtype=torch.float64), double_network((1,))
    phi, z = (torch.linspace(-a, a, n, dtype=torch.float64) for a, n in ((4, 401), (6, 301)))
    p = torch.softmax(-torch.as_tensor(action(phi[:, None].numpy())), 0)
    joint = (p[:, None] * torch.softmax(-(z**2) / 2, 0)).reshape(-1)
    fields, noise = (a.reshape(-1, 1) for a in torch.meshgrid(phi, z, indexing="ij"))
    level = torch.full((1,), 0.5 * math.log(v), dtype=torch.float64)
    C = 1 / (1 / 0.3 + 1 / v)
    x = (fields + math.sqrt(v) * noise)[:, 0]
    with torch.no_grad():
        R = net(bg, x[:, None], level)[0][:, 0]
        nodes = np.linspace(float(x.min()), float(x.max()), 241)
        R_best = torch.as_tensor(CubicSpline(nodes, one_site(action, v, 0.2, nodes)[0])(x.numpy()))
        losses = [
            float((joint * denoising_loss(f, bg, fields, noise, level)).sum())
            for f in (net, lambda _, field, __: (torch.zeros_like(field), None))
        ]
    explicit = float((joint * C**2 * ((R - R_best) ** 2 - R_best**2)).sum()) / v
    assert losses[0] - losses[1] == pytest.approx(explicit, rel=1e-5)


@pytest.mark.parametrize("w0", [0.0, 0.2, 1e6])
def test_loss_of_the_exact_free_field_score_is_closed_form(w0):
    """R = 0 and T = (1 - w)(z / sigma - phi / G) leave ``(1 - w)^2 sum_k G / (G + v)``; no target, no loss at w = 1."""
    bg, n, v = GaussianReference(FREE, model(FREE, SHAPE, 0).gaussian.propagator_full, dtype=torch.float64), 4000, 0.6
    phi = bg.colour(normal((n, *SHAPE), 15), 0.0)
    loss = denoising_loss(
        lambda _, x, __: (torch.zeros_like(x), None),
        bg,
        phi,
        normal((n, *SHAPE), 16),
        torch.tensor([0.5 * math.log(v)]),
        functools.partial(mixed_target, w0=w0),
    )
    w = 1 / (1 + w0 * v / bg.g_mean)
    expected = (1 - w) ** 2 * float((bg.propagator_full / (bg.propagator_full + v)).sum())
    error = float(loss.std()) / math.sqrt(n)
    assert abs(float(loss.mean()) - expected) <= N_SIGMA * error + 1e-12


def test_residual_of_phi4_has_no_linear_response():
    """Schwinger-Dyson: with G the true propagator, ``<x R> = 0`` at every sigma (one site, quadrature)."""
    action = Phi4.A(-3.0, 1.0, 1)
    phi = torch.linspace(-6, 6, 4001, dtype=torch.float64)
    p = torch.softmax(-torch.as_tensor(action(phi[:, None].numpy())), 0)
    G = float((p * phi**2).sum())
    for scale, law in ((1.0, True), (1.2, False)):  # a wrong G breaks it
        bg = GaussianReference(action, [scale * G], dtype=torch.float64)
        response = float((p * phi * bg.delta_force(phi[:, None])[:, 0]).sum())  # <x R> = <x DF> = <phi DF>
        assert (abs(response) < 1e-9) == law


# --- model files -----------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    made = model(QUARTIC, SHAPE, 0.5)
    made.card["training"] = {"seed": 3}
    return made, save_model(made, tmp_path / "model")


def test_model_file_round_trip_keeps_density_and_fingerprint(saved):
    made, folder = saved
    loaded = load_model(folder, action=QUARTIC, shape=SHAPE)
    assert loaded.fingerprint() == made.fingerprint()
    assert loaded.card["training"] == {"seed": 3}
    x, level = normal((2, *SHAPE), 17, torch.float32), torch.tensor([-0.5])
    for ours, theirs in zip(
        made.network(made.gaussian, x, level, True), loaded.network(loaded.gaussian, x, level, True), strict=True
    ):
        assert torch.equal(ours, theirs)
    assert not any(p.requires_grad for p in loaded.network.parameters())


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.network.A.data.add_(1e-6),
        lambda m: m.gaussian.propagator_full.mul_(1 + 1e-14),
        lambda m: m.power.__imul__(1.001),
        lambda m: setattr(m, "noise", type(m.noise)(0.05, 4.001)),
    ],
)
def test_fingerprint_sees_every_number_that_decides_the_density(change):
    made = model(QUARTIC, SHAPE, 0.5)
    before = made.fingerprint()
    assert before == model(QUARTIC, SHAPE, 0.5).fingerprint()
    change(made)
    assert made.fingerprint() != before


def test_a_model_taken_elsewhere_is_saved_as_what_it_is(tmp_path):
    """The card of the file that it was loaded from describes another theory, lattice and members."""
    action, shape = Phi4.A(-4.0, 4.98), (6, 6)
    with pytest.warns(UserWarning, match="not trained there"):
        moved = load_model("phi4-A-line").at(action, shape, outside=True)
    save_model(moved, tmp_path / "moved")
    again = load_model(tmp_path / "moved", action=action, shape=shape)
    assert again.fingerprint() == moved.fingerprint() and again.card["shape"] == [6, 6]
    assert "members" not in again.card and again.card["training"] == moved.card["training"]


def test_model_is_not_overwritten(saved):
    made, folder = saved
    with pytest.raises(FileError, match="already holds a model"):
        save_model(made, folder)


@pytest.mark.parametrize("value", [None, math.nan])
def test_altered_weights_are_refused(saved, value):
    _, folder = saved
    tensors = load_file(folder / "weights.safetensors")
    weights = tensors["network.A"].flatten()
    weights[5] = weights[5] + 1e-3 if value is None else value
    save_file(tensors, folder / "weights.safetensors")
    with pytest.raises(ModelError, match="do not match the hash" if value is None else "not finite"):
        load_model(folder)


def test_weights_of_another_network_are_refused(saved, tmp_path):
    _, folder = saved
    other = save_model(model(QUARTIC, SHAPE, 0.5, features=8), tmp_path / "other")
    (other / "weights.safetensors").replace(folder / "weights.safetensors")
    with pytest.raises(ModelError, match="do not belong together"):
        load_model(folder)


def test_missing_and_torn_files_are_refused(saved, tmp_path):
    _, folder = saved
    with pytest.raises(FileError, match="no model in"):
        load_model(tmp_path / "nothing")
    weights = folder / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileError, match="torn"):
        load_model(folder)
    weights.unlink()
    with pytest.raises(FileError, match="incomplete"):
        load_model(folder)
    (folder / "card.toml").write_text("action = [", encoding="utf-8")
    with pytest.raises(FileError, match="cannot read"):
        load_model(folder)
    (folder / "card.toml").unlink()
    with pytest.raises(FileError, match="no model in"):
        load_model(folder)


def test_model_of_another_theory_or_lattice_is_refused(saved):
    _, folder = saved
    with pytest.raises(ModelError, match="was trained for"):
        load_model(folder, action=Phi4.A(-4.0, 6.0))
    with pytest.raises(ModelError, match="was trained on"):
        load_model(folder, shape=(6, 4))
