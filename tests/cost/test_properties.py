"""Properties: what can only help never costs time; every phase does the work that it must."""

import dataclasses
import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign import DesignPoint
from codesign.cost import mac_area_um2, macs_per_256_cycles, simulate
from codesign.cost.lower import products
from codesign.design import LayerFormats, Role
from codesign.formats import FloatFormat, Reserved
from codesign.hardware import Dataflow, MacModel, ThroughputLaw
from codesign.testing import accelerators, convolutions, gemm_shapes
from codesign.workload import Phase, builtin_workload, gemm_of, single_linear

DIGITS = builtin_workload("vgg-digits", batch=8)
GPT_LIKE = single_linear(rows=48, in_features=96, out_features=80, batch=4)


def parsed(exponent_bits, mantissa_bits):
    reserved = "ieee" if exponent_bits >= 3 and exponent_bits + mantissa_bits >= 7 else "all"
    return FloatFormat.parse(f"e{exponent_bits}m{mantissa_bits}" + (reserved if exponent_bits else ""))


@st.composite
def narrower_pairs(draw):
    """Two sets of formats, the second with no more exponent and mantissa bits in any role."""
    wide, narrow = {}, {}
    for role in Role:
        exponent, mantissa = draw(st.integers(1, 8)), draw(st.integers(1, 23))
        wide[role.value] = parsed(exponent, mantissa)
        less = draw(st.integers(1, exponent)), draw(st.integers(1, mantissa))
        narrow[role.value] = parsed(*less)
    return LayerFormats(**wide), LayerFormats(**narrow)


def seconds(workload, formats, machine):
    return simulate(workload, DesignPoint.of(default=formats), machine).latency_s


FORMATS = st.sampled_from([parsed(8, 23), parsed(8, 7), parsed(4, 3), parsed(2, 1)]).map(
    lambda fmt: LayerFormats(**dict.fromkeys((role.value for role in Role), fmt))
)


@settings(max_examples=60)
@given(accelerators(), FORMATS, st.floats(1, 8), st.sampled_from([DIGITS, GPT_LIKE]))
def test_more_of_the_machine_never_costs_time(machine, formats, factor, workload):
    now = seconds(workload, formats, machine)
    dram, sram, array = machine.dram, machine.sram, machine.array
    better = [
        {"dram": dataclasses.replace(dram, bandwidth_bytes_per_s=factor * dram.bandwidth_bytes_per_s)},
        {"dram": dataclasses.replace(dram, latency_s=dram.latency_s / factor)},
        {"sram": dataclasses.replace(sram, capacity_bytes=int(factor * sram.capacity_bytes))},
        {"array": dataclasses.replace(array, dataflows=tuple(Dataflow))},
        {"array": dataclasses.replace(array, count=math.ceil(factor * array.count))},
        {"vector": dataclasses.replace(machine.vector, lanes=math.ceil(factor * machine.vector.lanes))},
    ]
    for change in better:
        assert seconds(workload, formats, dataclasses.replace(machine, **change)) <= now, change


@settings(max_examples=60)
@given(accelerators(), narrower_pairs(), st.sampled_from([DIGITS, GPT_LIKE]), st.sampled_from(MacModel))
def test_fewer_bits_never_cost_time(machine, formats, workload, model):
    machine = dataclasses.replace(machine, mac=dataclasses.replace(machine.mac, model=model))
    wide, narrow = formats
    assert seconds(workload, narrow, machine) <= seconds(workload, wide, machine)


@pytest.mark.parametrize("model", MacModel)
def test_area_only_grows_with_bits(model):
    """Exhaustive over neighbours: one bit more in one place."""
    accumulators = [parsed(8, 22), parsed(5, 10), parsed(4, 3)]
    for exponent, mantissa, wide in itertools.product(range(7), range(12), accumulators):
        fmt = parsed(exponent, mantissa)
        area = mac_area_um2(model, fmt, fmt, wide)
        for more in (parsed(exponent + 1, mantissa), parsed(exponent, mantissa + 1)):
            assert mac_area_um2(model, more, fmt, wide) >= area
            assert mac_area_um2(model, more, more, wide) >= area
        wider = parsed(wide.exponent_bits, wide.mantissa_bits + 1)
        assert mac_area_um2(model, fmt, fmt, wider) >= area


@given(st.sampled_from([Phase.FORWARD, Phase.INPUT_GRAD, Phase.WEIGHT_GRAD]), gemm_shapes())
def test_every_phase_of_a_linear_layer_multiplies_as_much(phase, forward):
    assert gemm_of(phase, forward).macs == forward.macs


def useful_pairs(size, out, kernel, stride, padding, dilation):
    """(input, output, tap) triples of one dimension that a convolution really multiplies: padding left out."""
    return sum(0 <= o * stride + t * dilation - padding < size for o, t in itertools.product(range(out), range(kernel)))


@settings(max_examples=300)
@given(convolutions(), st.integers(1, 3))
def test_the_products_of_a_convolution_do_at_least_its_useful_work_and_no_inserted_zero(layer, batch):
    """Brute force over all (input, output, tap) triples of each dimension."""
    x, y = (layer.out_size, layer.in_size) if layer.transposed else (layer.in_size, layer.out_size)
    plans = list(zip(x, y, layer.kernel, layer.stride, layer.padding, layer.dilation, strict=True))
    useful = math.prod(useful_pairs(*plan) for plan in plans)
    scale = batch * layer.in_channels * layer.out_channels // layer.groups
    found = {phase: 0 for phase in Phase}
    for product in products(layer, batch):
        found[product.phase] += product.gemm.macs * product.repeats
    # windows slide over padding, so forward and weight gradient count all taps of every output
    every = math.prod(o * k for _, o, k, *_ in plans) * scale
    gather, scatter = (Phase.INPUT_GRAD, Phase.FORWARD) if layer.transposed else (Phase.FORWARD, Phase.INPUT_GRAD)
    assert found[gather] == found[Phase.WEIGHT_GRAD] == every == layer.macs * batch
    # the other direction meets each input with just the taps whose output position is whole
    whole = math.prod(
        sum((i + p - t * d) % s == 0 for i, t in itertools.product(range(size), range(k)))
        for size, _, k, s, p, d in plans
    )
    assert found[scatter] == whole * scale >= useful * scale
    assert sum(p.gemm.macs == 0 for p in products(layer, batch)) == 0


@given(st.sampled_from(ThroughputLaw))
def test_the_native_format_runs_at_one_a_cycle(law):
    machine = next((x for x in _machines() if x.throughput.law is law), None)
    assert machine is not None, f"no preset has the law '{law}'; add one to configs/accelerators"
    native = FloatFormat.parse(machine.throughput.native)
    wide = FloatFormat.parse(machine.throughput.native_accumulator)
    assert macs_per_256_cycles(machine, native, native, wide) == 256


def _machines():
    from codesign.hardware import accelerator_names, load_accelerator

    found = [load_accelerator(name) for name in accelerator_names()]
    edge = load_accelerator("edge")
    iso = dataclasses.replace(edge, throughput=dataclasses.replace(edge.throughput, law=ThroughputLaw.ISO_AREA))
    return [*found, iso]


def test_reserved_codes_do_not_change_a_cost():
    """Formats of equal widths cost the same, whatever their codes mean."""
    fn, ieee = FloatFormat.parse("e4m3fn"), FloatFormat.parse("e4m3")
    assert (fn.reserved, ieee.reserved) == (Reserved.FN, Reserved.IEEE)
    wide = parsed(8, 23)
    for model in MacModel:
        assert mac_area_um2(model, fn, fn, wide) == mac_area_um2(model, ieee, ieee, wide)
