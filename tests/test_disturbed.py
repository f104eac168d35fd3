"""The disturbance itself: small, repeatable, through every door, and of other values than the numbers that it meets."""

import numpy as np
import pytest
import scipy.linalg
import torch

from tests.disturbed import DOORS, _all_of, _Torch, noise, rewritten, size_of


def test_the_noise_is_spread_evenly_and_depends_on_seed_place_and_number():
    bits = np.ones(100_000, np.uint64)
    u = noise(bits, 1)
    assert (np.abs(u) <= 1).all()
    # mean 0, standard deviation 1 / sqrt(3); of the mean of 100,000 numbers 0.0018
    assert abs(u.mean()) < 0.01
    assert u.std() == pytest.approx(3**-0.5, abs=0.01)
    assert len(np.unique(u)) == len(u)
    np.testing.assert_array_equal(u, noise(bits, 1))
    for other in (noise(bits, 2), noise(bits + np.uint64(1), 1)):
        assert abs(np.corrcoef(u, other)[0, 1]) < 0.02


@pytest.mark.parametrize(
    ("dtype", "most"), [(np.float64, 1e-14), (np.float32, 2.0**-21), (np.float16, 2.0**-10), (np.complex128, 1.5e-14)]
)
def test_a_result_moves_by_its_last_bits_and_the_same_way_again(dtype, most):
    x = np.random.default_rng(0).standard_normal((40, 3)).astype(dtype)
    x[0, 0] = 0
    first, again = (_all_of((x.copy(), 7), 1) for _ in range(2))
    np.testing.assert_array_equal(first[0], again[0])
    assert first[1] == 7
    assert first[0].dtype == x.dtype
    assert first[0][0, 0] == 0
    apart = np.abs(first[0].astype(np.complex128) - x.astype(np.complex128))
    assert (apart <= 1.6 * most * np.abs(x.astype(np.complex128))).all()
    assert (first[0] != x).mean() > 0.2
    assert (_all_of(x.copy(), 2) != first[0]).any()


def test_integers_are_exact_everywhere():
    x = np.arange(9).reshape(3, 3)
    np.testing.assert_array_equal(_all_of(x.copy(), 1), x)


def test_torch_is_disturbed_forward_and_backward():
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(64, 5))
    x = torch.randn(2, 3, 6, 6)

    def gradients():
        layers.zero_grad()
        out = layers(x)
        out.square().sum().backward()
        return [out.detach().clone(), *(p.grad.clone() for p in layers.parameters())]

    plain = gradients()
    with _Torch(1):
        first = gradients()
    with _Torch(1):
        again = gradients()
    for before, after, same in zip(plain, first, again, strict=True):
        assert torch.equal(after, same)
        assert not torch.equal(after, before)
        torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("function", ["linalg.eigh", "linalg.svd", "linalg.qr", "linalg.cholesky", "linalg.inv"])
def test_decompositions_of_torch_are_disturbed(function):
    a = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    a = a @ a.T + torch.eye(6, dtype=torch.float64)
    decompose = getattr(torch.linalg, function.split(".")[1])

    def parts():
        result = decompose(a)
        return result if isinstance(result, tuple) else (result,)

    plain = parts()
    with _Torch(1):
        changed = parts()
    assert all(not torch.equal(x, y) for x, y in zip(plain, changed, strict=True))
    for x, y in zip(plain, changed, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)


def test_a_product_written_with_an_operator_becomes_a_call():
    code = rewritten("y = a.T @ (a @ b) + 1", "<test>")
    names = {"a": np.eye(2), "b": np.array([2.0, 3.0])}
    exec(code, names)
    np.testing.assert_allclose(names["y"], [3.0, 4.0])
    assert "product" in code.co_names


def test_every_door_exists():
    assert all(callable(getattr(module, name)) for module, names in DOORS for name in names)
    assert scipy.linalg is DOORS[2][0]


def test_the_step_is_a_few_units_in_the_last_place_and_never_below_what_double_precision_has():
    assert size_of(2.0**-52) == 1e-14
    assert size_of(2.0**-23) == 2.0**-21
    assert size_of(2.0**-7) == 2.0**-7
