"""Choices by the outputs of a layer: judged on samples themselves, against every method, on every channel."""

import numpy as np
import pytest

from codesign.errors import ModelError
from codesign.formats import FloatFormat
from codesign.quantize import Moments, allocate_for_outputs, compare, corrected, fit_outputs


def layer(seed, channels=12, n=18, samples=400, groups=1):
    """Weights, inputs that are correlated and not centred, and the outputs of other inputs near by."""
    rng = np.random.default_rng(seed)
    inputs = np.maximum(rng.normal(size=(samples, groups * n)) @ rng.normal(size=(groups * n, groups * n)) + 1, 0)
    weights = (rng.standard_t(4, size=(channels, n)) * np.exp(rng.normal(size=(channels, 1)))).astype(np.float32)
    dense = inputs + 0.1 * rng.normal(size=inputs.shape)
    return weights, inputs, products(dense, weights, groups)


def products(inputs, weights, groups=1):
    """Outputs [samples, channels] of a layer whose groups read inputs of their own."""
    own = inputs.reshape(len(inputs), groups, -1)
    return np.einsum("sgn,gcn->sgc", own, weights.reshape(groups, -1, own.shape[2])).reshape(len(inputs), -1)


def loss(outputs, wanted):
    """Mean squared error of each channel, its mean taken off."""
    return (outputs - wanted).var(axis=0)


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("seed", range(4))
def test_no_method_loses_less_on_any_channel(bits, seed):
    weights, inputs, _ = layer(seed)
    moments, wanted = Moments.of(inputs), products(inputs, weights)
    chosen = allocate_for_outputs(weights, bits, moments)
    own = loss(products(inputs, chosen.round(weights).astype(np.float64)), wanted)
    fitted = fit_outputs(weights, bits, moments)
    np.testing.assert_allclose(fitted.output_mse, loss(products(inputs, fitted.values), wanted), rtol=1e-6)
    for method, other in compare(weights, bits).items():
        if method != "microscaling":
            theirs = loss(products(inputs, other.round(weights).astype(np.float64)), wanted)
            assert (own <= theirs * (1 + 1e-4)).all(), method
            assert (fitted.output_mse <= theirs * (1 + 1e-4)).all(), method
            assert fitted.output_mse.sum() < 0.9 * theirs.sum(), method


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("bits", [2, 4])
def test_corrections_leave_mean_and_variance(bits, groups):
    weights, inputs, wanted = layer(1, groups=groups)
    for target, moments in (
        (wanted, Moments.of(inputs, wanted - products(inputs, weights, groups), groups=groups)),
        (products(inputs, weights, groups), Moments.of(inputs, groups=groups)),
    ):
        for method, each in compare(weights, bits).items():
            if method != "microscaling":
                fit = corrected(weights, each.round(weights), each, moments)
                outputs = products(inputs, fit.values.astype(np.float64), groups) + fit.bias
                np.testing.assert_allclose(outputs.mean(0), target.mean(0), atol=1e-4 * target.std())
                np.testing.assert_allclose(outputs.var(0), target.var(0), rtol=1e-4)
                np.testing.assert_allclose(((outputs - target) ** 2).mean(0), fit.output_mse, rtol=1e-6)


@pytest.mark.parametrize("groups", [1, 4])
def test_fitted_weights_are_values_of_their_formats_and_make_up_for_other_inputs(groups):
    weights, inputs, wanted = layer(2, groups=groups)
    moments = Moments.of(inputs, wanted - products(inputs, weights, groups), groups=groups)
    fit = fit_outputs(weights, 4, moments)
    assert fit.allocation.round(fit.values).tobytes() == fit.values.tobytes()
    outputs = products(inputs, fit.values.astype(np.float64), groups) + fit.bias
    np.testing.assert_allclose(((outputs - wanted) ** 2).mean(0), fit.output_mse, rtol=1e-6)
    np.testing.assert_allclose(wanted.var(0), fit.output_power, rtol=1e-9)
    np.testing.assert_allclose(((fit.values - weights) ** 2).mean(1), fit.allocation.mse, rtol=1e-6)
    nearest = allocate_for_outputs(weights, 4, moments).round(weights)
    assert (fit.output_mse <= loss(products(inputs, nearest.astype(np.float64), groups), wanted) * (1 + 1e-6)).all()


def test_uncorrelated_inputs_of_equal_variance_leave_nothing_to_feed_back():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(5, 8)).astype(np.float32)
    moments = Moments(count=1, covariance=np.eye(8)[None], mean=np.zeros((1, 8)))
    fit = fit_outputs(weights, 5, moments, formats=[FloatFormat.parse("e0m4")])
    np.testing.assert_allclose(fit.output_mse, ((fit.values - weights) ** 2).sum(1), rtol=1e-5)
    assert fit.allocation.round(weights).tobytes() == fit.values.tobytes()


def test_inputs_that_never_vary_cost_nothing():
    weights, inputs, _ = layer(3)
    inputs[:, 4:9] = 0
    inputs[:, 9] = 1
    fit = fit_outputs(weights, 3, Moments.of(inputs))
    assert np.isfinite(fit.values).all() and np.isfinite(fit.output_mse).all()
    nothing = fit_outputs(weights, 3, Moments.of(np.zeros_like(inputs)))
    assert (nothing.output_mse == 0).all() and (nothing.bias == 0).all()
    assert nothing.allocation.total_sqnr_db > 6


def test_bad_input_is_one_clear_error():
    weights, inputs, wanted = layer(0)
    moments = Moments.of(inputs, wanted - products(inputs, weights))
    with pytest.raises(ModelError, match="12 channels with 17 numbers each, but moments of 1 groups of 18 inputs"):
        fit_outputs(weights[:, 1:], 4, moments)
    with pytest.raises(ModelError, match="missing outputs of 12 channels for weights of 11"):
        fit_outputs(weights[1:], 4, moments)
    with pytest.raises(ModelError, match="channel 3 of x holds only zeros"):
        fit_outputs(np.where(np.arange(12)[:, None] == 3, 0, weights), 4, moments)
    with pytest.raises(ModelError, match="moments of no samples"):
        Moments.of(inputs[:0])
    with pytest.raises(ModelError, match="hold NaN or infinity"):
        Moments.of(np.where(inputs == inputs.max(), np.nan, inputs))
