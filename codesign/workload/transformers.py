"""Transformers: a vision transformer and a GPT."""

from __future__ import annotations

from codesign.workload.build import Tensor
from codesign.workload.layers import VectorKind
from codesign.workload.network import Workload
from codesign.workload.shapes import BATCH, Atom, extent_of, size_of
from codesign.workload.sketch import Sketch


def _block(net: Sketch, x: Tensor, at: str, heads: int) -> Tensor:
    """Attention and a two-layer perceptron, each after a layer norm and beside an identity."""
    x = net.add(x, _attention(net, net.layer_norm(x, f"{at}.norm1"), f"{at}.attention", heads), f"{at}.add")
    y = net.layer_norm(x, f"{at}.norm2")
    y = net.activation(net.linear(y, f"{at}.mlp.0", 4 * size_of(x.shape[-1])), f"{at}.mlp.1")
    return net.add(x, net.linear(y, f"{at}.mlp.2", size_of(x.shape[-1])), f"{at}.add")


def _attention(net: Sketch, x: Tensor, at: str, heads: int) -> Tensor:
    width, length = size_of(x.shape[-1]), size_of(x.shape[1])
    split = (BATCH, length, heads, width // heads)
    parts = (net.linear(x, f"{at}.{part}", width, units=heads) for part in ("query", "key", "value"))
    query, key, value = (net.swap(net.view(part, split), 1, 2) for part in parts)
    scores = net.builder.matmul(query, net.swap(key, -2, -1), f"{at}.scores")
    weights = net.builder.vector(VectorKind.SOFTMAX, (scores,), f"{at}.softmax")
    context = net.swap(net.builder.matmul(weights, value, f"{at}.context"), 1, 2)
    return net.linear(net.view(context, (BATCH, length, width)), f"{at}.out", width)


def gpt(name: str, batch: int) -> Workload:
    """The smallest GPT-2 (Radford et al. 2019): 12 layers of width 768 on 1024 tokens; the output matrix is its own."""
    net = Sketch()
    tokens = net.input((1024,), channels=False)
    positions = Tensor(shape=((Atom(1024),),), source="")
    x = net.add(
        net.builder.embedding(tokens, "tokens", 50257, 768),
        net.builder.embedding(positions, "positions", 1024, 768),
        "add",
    )
    for i in range(12):
        x = _block(net, x, f"blocks.{i}", 12)
    return net.workload(name, net.linear(net.layer_norm(x, "norm"), "head", 50257, bias=False), batch)


def vit(name: str, batch: int) -> Workload:
    """ViT-B/16 (Dosovitskiy et al. 2021, arXiv 2010.11929, table 1) on 224x224 images, with a class token."""
    net = Sketch()
    x = net.conv(net.input((3, 224, 224)), "patches", 768, 16, stride=16)
    x = net.swap(net.flatten(x, 2), 1, 2)
    shape = (x.shape[0], (Atom(197),), x.shape[2])
    token = extent_of((x.shape[2],))
    x = net.builder.vector(VectorKind.CONCATENATE, (x,), "cat", shape=shape, weights=token)
    x = net.builder.vector(VectorKind.ACTIVATION, (x,), "add", weights=extent_of(shape[1:]))
    for i in range(12):
        x = _block(net, x, f"blocks.{i}", 12)
    x = net.layer_norm(x, "norm")
    first = Tensor(shape=(x.shape[0], x.shape[2]), source=x.source, owner=x.owner, needs_grad=True)
    return net.workload(name, net.linear(first, "head", 1000), batch)
