"""Every kind of layer, by the union `Layer`: a new member without an example here, or that forgets a part, fails."""

from typing import get_args

import pytest

from codesign.cost import products
from codesign.workload import Layer, Phase, builtin_workload, layers

NETWORKS = [builtin_workload(name, batch=3) for name in ("mobilenet-v2", "vit-b16", "gpt-small")]
EXAMPLES = [(network, layer) for network in NETWORKS for layer in network.layers]


def test_there_is_an_example_of_every_kind():
    assert {type(layer) for _, layer in EXAMPLES} == set(get_args(Layer))


@pytest.mark.parametrize("kind", get_args(Layer), ids=lambda kind: kind.__name__)
def test_a_layer_with_output_channels_of_its_own_can_be_named_by_a_cut(kind):
    assert hasattr(kind, "out_channels") == (kind in get_args(layers.ChannelLayer))


@pytest.mark.parametrize("kind", get_args(Layer), ids=lambda kind: kind.__name__)
def test_the_forward_products_of_a_layer_are_its_multiply_accumulates(kind):
    for network, layer in EXAMPLES:
        if isinstance(layer, kind):
            forward = [p for p in products(layer, network.batch) if p.phase is Phase.FORWARD]
            assert sum(p.gemm.macs * p.repeats for p in forward) == layer.macs * network.batch, layer.name
            assert layer.macs or not products(layer, network.batch), layer.name


@pytest.mark.parametrize("kind", get_args(Layer), ids=lambda kind: kind.__name__)
def test_a_layer_between_groups_of_the_same_sizes_is_the_same(kind):
    for network, layer in EXAMPLES:
        if isinstance(layer, kind):
            sizes = {group.name: group.channels for group in network.groups}
            assert layer.resized(sizes) == layer
            assert layer.renamed(lambda extent: extent, lambda extent: extent) == layer


@pytest.mark.parametrize("kind", get_args(Layer), ids=lambda kind: kind.__name__)
def test_every_extent_of_a_layer_is_renamed(kind):
    def marked(extent):
        return layers.Extent(tuple((f"new {group}", factor) for group, factor in extent.terms), extent.constant)

    for _, layer in EXAMPLES:
        if isinstance(layer, kind):
            renamed = layer.renamed(marked, marked)
            assert renamed.reads == {f"new {group}" for group in layer.reads}
            assert renamed.writes == {f"new {group}" for group in layer.writes}
