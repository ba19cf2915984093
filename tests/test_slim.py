"""Ridge networks with fewer input and output filters: every path of theirs against plain torch in double precision."""

import copy

import numpy as np
import pytest
import torch
from learned_toys import QUARTIC, network, normal, some_propagator

from latticediff._kernels import two_sites
from latticediff._kernels.vectors import LANES
from latticediff.config import parse_card
from latticediff.diffusion.compiled import CompiledFlow
from latticediff.diffusion.differentiable import DifferentiableFlow
from latticediff.diffusion.flow import ProbabilityFlow
from latticediff.diffusion.runge_kutta import scheme
from latticediff.errors import UserError
from latticediff.gaussian.reference import GaussianReference
from latticediff.networks.ridge.conservative import ConservativeRidgeNetwork
from latticediff.networks.ridge.network import RidgeNetwork

SIZES = [(2, 1), (2, 2), (3, 1)]


def reference(shape):
    return GaussianReference(QUARTIC, some_propagator(shape))


def slim(inputs, outputs, features=6):
    options = {"ordered": True, "screened": True, "features": features}
    return network(2, 0.3, inputs=inputs, outputs=outputs, **options)


@pytest.mark.parametrize(("inputs", "outputs"), SIZES)
def test_the_trace_in_closed_form_is_the_trace(inputs, outputs):
    bg, net = reference((4, 6)).to("cpu", torch.float64), slim(inputs, outputs).double()
    x, level = normal((1, 4, 6), 1), torch.tensor([-0.4], dtype=torch.float64)
    _, closed = net(bg, x, level, trace=True)
    _, C = bg.posterior(bg.expand((2 * level).exp()))
    jacobian = torch.autograd.functional.jacobian(lambda field: bg.filter(net(bg, field, level)[0], C), x)
    exact = float(torch.trace(jacobian.reshape(bg.volume, bg.volume)))
    assert float(closed.detach()) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("features", [6, 8, 16, 19])
@pytest.mark.parametrize(("inputs", "outputs"), [*SIZES, (3, 2)])
def test_compiled_flows_are_the_plain_one(inputs, outputs, features):
    """Blocks of features and of output rows that are full, and ones that are not; an odd number of sites."""
    for shape in ((4, 6), (3, 5)):
        net, gaussian = slim(inputs, outputs, features).requires_grad_(False), reference(shape)
        grid, y = np.linspace(np.log(4.0), np.log(0.05), 7), normal((5, *shape), 6)
        exact = ProbabilityFlow(copy.deepcopy(net).double(), gaussian.to("cpu", torch.float64), grid, scheme("rk4"))
        phi, log_q = exact.down(y)
        fast, log_q_fast = CompiledFlow(net, gaussian, grid, scheme("rk4")).down(y.numpy())
        np.testing.assert_allclose(fast, phi, atol=2e-5)
        np.testing.assert_allclose(log_q_fast, log_q, atol=5e-4)


@pytest.mark.parametrize(("inputs", "outputs"), SIZES)
def test_gradients_are_those_of_the_plain_flow(inputs, outputs):
    net, gaussian = slim(inputs, outputs), reference((4, 6))
    grid, y = np.linspace(np.log(4.0), np.log(0.2), 4), normal((3, 4, 6), 7)
    double = copy.deepcopy(net).double()
    ProbabilityFlow(double, gaussian.to("cpu", torch.float64), grid, scheme("rk4")).down(y, True)[1].sum().backward()
    DifferentiableFlow(net, gaussian, grid, scheme("rk4")).down(y, True)[1].sum().backward()
    for name, wanted in double.named_parameters():
        scale = float(wanted.grad.abs().max())
        found = dict(net.named_parameters())[name].grad.double()
        np.testing.assert_allclose(found / scale, wanted.grad / scale, atol=2e-3, err_msg=name)


def test_a_field_has_the_bits_of_its_own_in_any_group():
    """One field alone, and the same among others of a full group and of the next."""
    net, gaussian = slim(2, 1).requires_grad_(False), reference((3, 5))
    flow = CompiledFlow(net, gaussian, np.linspace(1.0, -2.0, 4), scheme("adams5"))
    y = normal((LANES + 3, 3, 5), 8).numpy()
    phi, log_q = flow.down(y)
    for i in (0, 3, LANES - 1, LANES, LANES + 2):
        alone = flow.down(y[i : i + 1])
        assert np.array_equal(alone[0][0], phi[i])
        assert alone[1][0] == log_q[i]


def test_rows_that_only_fill_up_a_block_go_nowhere():
    """9 rows in blocks of 5: the tenth has no place on the lattice."""
    net, gaussian = slim(2, 1).requires_grad_(False), reference((4, 6))
    flow = CompiledFlow(net, gaussian, np.linspace(1.0, -2.0, 4), scheme("rk4"))
    places = flow.ridge.taps[1].reshape(24, -1) // LANES
    assert places.shape[1] % two_sites.ROWS == 0 and np.all(places[:, 9:] == 24)
    for row in places[:, :9].T:
        assert sorted(row) == list(range(24))


def test_a_description_tells_what_is_not_the_default():
    assert not {"inputs", "outputs"} & set(network(2, 0.1).describe())
    described = slim(2, 1).describe()
    assert described["inputs"] == 2 and described["outputs"] == 1
    again = RidgeNetwork(2, **{key: value for key, value in described.items() if key != "name"})
    assert again.describe() == described


@pytest.mark.parametrize(("key", "value"), [("inputs", 1), ("inputs", 4), ("outputs", 0), ("outputs", 3)])
def test_numbers_of_filters_that_are_none_are_refused(key, value):
    with pytest.raises(UserError, match=f"{key} = {value}"):
        RidgeNetwork(2, **{key: value})
    head = '[run]\nseed = 1\n[action]\nconvention = "A"\nm2 = -4.0\nlam = 6.0\n[lattice]\nshape = [4, 4]\n'
    with pytest.raises(UserError, match=key):
        parse_card(f"{head}[network]\n{key} = {value}\n")


def test_a_score_that_is_a_gradient_has_all_filters():
    with pytest.raises(UserError, match="outputs are of ridge"):
        ConservativeRidgeNetwork(2, inputs=2)
