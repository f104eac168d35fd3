"""What another processor's BLAS does to a result, made repeatable: its last bits are others.

    CODESIGN_DISTURB=1 pytest tests/search tests/prune tests/quantize

runs every test with each result of a matrix product, factorisation, solve and eigenvalue problem multiplied by
1 + size x u. Here u, between -1 and 1, is a hash of the seed, of the number itself and of its place. So the same inputs
give the same result again, as on one machine, and another seed is another machine. `size` is 1e-14, or four units in
the last place where the type is too narrow for that (float32); 16-bit results move by at most one.

The doors: numpy's products and `numpy.linalg`, `scipy.linalg`, `scipy.sparse.linalg`, and every matrix operation of
torch below autograd, so that backward passes are disturbed as well. `a @ b` of two arrays has no door in numpy:
modules of the package that contain one are rewritten to call `product(a, b)` while they are imported.

A test that compares bits of products which are exact in any order (whole numbers, zeros) is marked
`exact_products("why")` and is left alone.

Not disturbed: sums (`numpy.sum`), loops that numba compiles, code in processes that a test starts, signs of eigenvectors.
"""

from __future__ import annotations

import ast
import functools
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import CodeType, ModuleType
from typing import Any

import numba  # noqa: F401  knows numpy's functions by identity, so it comes before they are exchanged
import numpy as np
import scipy.linalg
import scipy.linalg.lapack
import scipy.sparse.linalg
import torch
from torch.utils._python_dispatch import TorchDispatchMode

SMALLEST = 1e-14
DOORS: tuple[tuple[ModuleType, tuple[str, ...]], ...] = (
    (np, ("dot", "vdot", "inner", "matmul", "einsum", "tensordot")),
    (
        np.linalg,
        (
            *("cholesky", "det", "eig", "eigh", "eigvals", "eigvalsh", "inv", "lstsq", "matrix_power", "multi_dot"),
            *("norm", "pinv", "qr", "slogdet", "solve", "svd"),
        ),
    ),
    (
        scipy.linalg,
        (
            *("cho_factor", "cho_solve", "cholesky", "eig", "eigh", "eigvals", "eigvalsh", "inv", "ldl", "lstsq"),
            *("lu", "lu_factor", "lu_solve", "pinv", "pinvh", "qr", "solve", "solve_triangular", "svd", "svdvals"),
        ),
    ),
    (scipy.linalg.lapack, ("dpotrf", "dpotri", "dpotrs", "dtrtri", "dtrtrs")),
    (scipy.sparse.linalg, ("cg", "eigs", "eigsh", "gmres", "lsqr", "spsolve", "svds")),
)
# ATen operations by name, without a trailing underscore; those of torch.linalg by their beginning.
PRODUCTS = frozenset(
    {
        *("mm", "bmm", "addmm", "addbmm", "baddbmm", "mv", "addmv", "dot", "vdot", "linear", "einsum"),
        *("convolution", "convolution_backward", "mkldnn_convolution", "mkldnn_linear"),
        *("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention_for_cpu_backward"),
    }
)
LINALG = ("linalg_", "_linalg_", "cholesky", "triangular_solve")

_seed: int | None = None  # of the disturbance that is on


@contextmanager
def disturbed(seed: int) -> Iterator[None]:
    """Disturb results in this block. `install` must have been called before the package was imported."""
    global _seed
    before, _seed = _seed, seed
    try:
        with _Torch(seed):
            yield
    finally:
        _seed = before


def install() -> None:
    """Exchange the doors. They do what they did until `disturbed` is entered."""
    loaded = sorted(name for name in sys.modules if name.split(".")[0] == "codesign")
    if loaded:
        raise RuntimeError(f"{loaded[0]} is imported already; install the disturbance before the package is imported")
    for module, names in DOORS:
        for name in names:
            setattr(module, name, _door(getattr(module, name)))
    sys.meta_path.insert(0, _Finder())


def product(a: Any, b: Any) -> Any:
    """`a @ b`; disturbed where torch's own door is not passed anyway."""
    result = a @ b
    return result if _seed is None else _all_of(result, _seed)


def rewritten(source: str, filename: str) -> CodeType:
    """`source` compiled with every `a @ b` as a call of `product`."""
    tree = ast.fix_missing_locations(_Products().visit(ast.parse(source, filename)))
    return compile(tree, filename, "exec", dont_inherit=True)


def noise(bits: np.ndarray, seed: int) -> np.ndarray:
    """u of every number: float64 in [-1, 1), shape of `bits` (uint64), a hash of bits, place and seed.

    The mixing is that of SplitMix64 (Steele, Lea, Flood 2014, doi 10.1145/2714064.2660195).
    """
    places = np.arange(bits.size, dtype=np.uint64).reshape(bits.shape)
    z = bits + places * np.uint64(0x9E3779B97F4A7C15) + np.full(1, seed, np.uint64) * np.uint64(0xD1B54A32D192ED03)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(11)) * 2.0**-52 - 1.0


def size_of(eps: float) -> float:
    """Largest relative disturbance of numbers whose unit in the last place is `eps`."""
    return eps if eps > 1e-5 else max(SMALLEST, 4 * eps)


def _array(x: np.ndarray, seed: int) -> np.ndarray:
    plain = np.ascontiguousarray(x)
    if plain.dtype.kind == "c":
        part = plain.real.dtype
        return _array(plain.view(part), seed).view(x.dtype).reshape(x.shape)
    bits = plain.view(f"u{plain.dtype.itemsize}").astype(np.uint64)
    factor = 1.0 + size_of(float(np.finfo(x.dtype).eps)) * noise(bits, seed)
    return np.multiply(x, factor.reshape(x.shape)).astype(x.dtype)


def _all_of(result: Any, seed: int) -> Any:
    """The numbers of a result of numpy or scipy, in whatever tuple it has."""
    if isinstance(result, np.ndarray) and result.dtype.char in "efdFD" and result.size:
        changed = _array(result, seed)
        if result.flags.writeable:  # it may be the caller's own `out`
            result[...] = changed
            return result
        return changed
    if isinstance(result, (np.floating, np.complexfloating)):
        return _array(np.array([result]), seed)[0]
    if isinstance(result, float):
        return float(_array(np.array([result]), seed)[0])
    if isinstance(result, tuple):
        parts = [_all_of(part, seed) for part in result]
        return type(result)(*parts) if hasattr(result, "_fields") else tuple(parts)
    return result


def _door(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def through(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        return result if _seed is None else _all_of(result, _seed)

    return through


class _Torch(TorchDispatchMode):
    """Disturbs what ATen's matrix operations return."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed_of_mode = seed

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__.rstrip("_")
        if name in PRODUCTS or (name.startswith(LINALG) and name != "linalg_vector_norm"):  # which is a sum
            for part in result if isinstance(result, (tuple, list)) else (result,):
                if isinstance(part, torch.Tensor):
                    _disturb_tensor(part, self._seed_of_mode)
        return result


def _disturb_tensor(x: torch.Tensor, seed: int) -> None:
    """In place, so that its strides stay."""
    if type(x) is not torch.Tensor or x.device.type != "cpu" or not x.is_floating_point() or not x.numel():
        return
    integers = {8: torch.int64, 4: torch.int32, 2: torch.int16}[x.element_size()]
    bits = x.detach().contiguous().view(integers).numpy().astype(np.uint64)
    factor = 1.0 + size_of(torch.finfo(x.dtype).eps) * noise(bits, seed)
    x.copy_((x.double() * torch.from_numpy(factor).reshape(x.shape)).to(x.dtype))


class _Products(ast.NodeTransformer):
    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.op, ast.MatMult):
            return node
        door = ast.parse("__import__('sys').modules['tests.disturbed'].product", mode="eval").body
        return ast.copy_location(ast.Call(func=door, args=[node.left, node.right], keywords=[]), node)


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles from the source, past the cache, which holds what was not rewritten."""

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_source(fullname)
        assert source is not None
        return rewritten(source, self.get_filename(fullname))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds modules of the package that write `@` between two operands."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.split(".")[0] != "codesign":
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or not isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            return None
        source = spec.loader.get_source(fullname)
        if source is None or " @ " not in source:
            return None
        spec.loader = _Loader(fullname, spec.loader.get_filename(fullname))
        return spec
