"""Data sets: float32 images in [0, 1] and integer labels, in memory, with a hash of what was read."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import importlib
import pickle
import struct
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codesign.errors import DataError, did_you_mean

FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # where Debian's dataset-fashion-mnist puts its files


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Images and labels.

    train_images, test_images : float32 [count, channels, height, width], in [0, 1]
    train_labels, test_labels : int64 [count], in [0, classes)
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: int
    sha256: str

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        channels, height, width = self.train_images.shape[1:]
        return channels, height, width


_NAMED: dict[str, Callable[[Path | None], Dataset]] = {
    "digits": lambda folder: _digits(),
    "fashion-mnist": lambda folder: _fashion_mnist(folder or FASHION_FOLDER),
    "cifar10": lambda folder: _cifar("cifar10", folder),
    "cifar100": lambda folder: _cifar("cifar100", folder),
}
NAMES = tuple(_NAMED)


def load_dataset(name: str, folder: str | Path | None = None) -> Dataset:
    """The data set `name`: one of `NAMES`, `imagefolder:DIR`, `npz:FILE` or `module:function`.

    folder : where the files of fashion-mnist, cifar10 and cifar100 lie
    """
    where = Path(folder) if folder else None
    if name in _NAMED:
        return _NAMED[name](where)
    kind, _, rest = name.partition(":")
    if kind == "imagefolder" and rest:
        return _image_folder(Path(rest))
    if kind == "npz" and rest:
        return _npz(Path(rest))
    if rest:
        return _from_function(kind, rest)
    known = (*NAMES, "imagefolder:DIR", "npz:FILE", "module:function")
    raise DataError(f"unknown data set '{name}'{did_you_mean(name, known)}")


def _dataset(
    name: str, train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], classes: int | None = None
) -> Dataset:
    """Check, convert to the common form, hash."""
    digest = hashlib.sha256()
    parts = []
    for split, (images, labels) in (("train", train), ("test", test)):
        if images.ndim != 4 or labels.ndim != 1 or len(images) != len(labels) or not len(images):
            raise DataError(
                f"data set '{name}', {split}: images must be [count, channels, height, width] with one label each, "
                f"got {images.shape} and {labels.shape}"
            )
        if images.dtype == np.uint8:
            images = images.astype(np.float32) / np.float32(255)
        images = np.ascontiguousarray(images, dtype=np.float32)
        if not np.isfinite(images).all():
            raise DataError(f"data set '{name}', {split}: images hold NaN or infinity; remove those images")
        labels = np.ascontiguousarray(labels, dtype=np.int64)
        digest.update(images)
        digest.update(labels)
        parts.append((images, labels))
    (train_images, train_labels), (test_images, test_labels) = parts
    top = int(max(train_labels.max(), test_labels.max()))
    if int(min(train_labels.min(), test_labels.min())) < 0 or (classes is not None and top >= classes):
        raise DataError(f"data set '{name}': labels must lie in 0 .. {(classes or top + 1) - 1}, got one outside")
    return Dataset(
        name=name,
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        classes=classes or top + 1,
        sha256=digest.hexdigest(),
    )


def _digits() -> Dataset:
    """1,797 images of 8x8 from scikit-learn: every fifth (359) is for testing, the others (1,438) for training."""
    from sklearn.datasets import load_digits  # heavy import

    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)[:, None]  # stored as 0 .. 16
    labels = digits.target.astype(np.int64)
    held_out = np.arange(len(labels)) % 5 == 4
    return _dataset("digits", (images[~held_out], labels[~held_out]), (images[held_out], labels[held_out]), 10)


def _read_idx(path: Path) -> np.ndarray:
    """An IDX file, gzipped or not: 2 zero bytes, type 0x08 (uint8), rank, big-endian sizes, data."""
    gzipped = path.with_name(path.name + ".gz")
    if not path.exists() and not gzipped.exists():
        raise DataError(
            f"data set 'fashion-mnist': no {path.name}[.gz] in {path.parent}; install it "
            "(Debian: apt-get install dataset-fashion-mnist) or set data.folder to where the four IDX files are"
        )
    raw = path.read_bytes() if path.exists() else gzip.decompress(gzipped.read_bytes())
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08" or len(raw) < 4 + 4 * raw[3]:
        raise DataError(f"{path}: not an IDX file of bytes; fetch it again")
    shape = struct.unpack(f">{raw[3]}I", raw[4 : 4 + 4 * raw[3]])
    if len(raw) != 4 + 4 * raw[3] + int(np.prod(shape)):
        raise DataError(f"{path}: holds {len(raw)} bytes, its header says {shape}; fetch it again")
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


def _fashion_mnist(folder: Path) -> Dataset:
    """Xiao et al. 2017, arXiv 1708.07747: 60,000 training and 10,000 test images of 28x28."""
    splits = [
        (_read_idx(folder / f"{split}-images-idx3-ubyte")[:, None], _read_idx(folder / f"{split}-labels-idx1-ubyte"))
        for split in ("train", "t10k")
    ]
    return _dataset("fashion-mnist", splits[0], splits[1], 10)


class _NumbersOnly(pickle.Unpickler):
    """Reads the CIFAR archives, which hold dictionaries of NumPy arrays, and refuses to call anything else."""

    def find_class(self, module: str, name: str) -> object:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name in ("_reconstruct", "scalar"):
            return getattr(importlib.import_module("numpy._core.multiarray"), name)
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        if (module, name) == ("_codecs", "encode"):  # how Python 3 writes bytes in the old protocol
            return codecs.encode
        raise DataError(f"the archive asks for {module}.{name}, which a CIFAR archive does not need; fetch it again")


def _cifar(name: str, folder: Path | None) -> Dataset:
    """Krizhevsky 2009: the standard python version, packed (cifar-10-python.tar.gz) or unpacked."""
    if folder is None:
        raise DataError(f"data set '{name}' needs a folder; put the python archive there and set data.folder")
    packed, unpacked, train_files, test_file, key = {
        "cifar10": (
            "cifar-10-python.tar.gz",
            "cifar-10-batches-py",
            [f"data_batch_{i}" for i in range(1, 6)],
            "test_batch",
            b"labels",
        ),
        "cifar100": ("cifar-100-python.tar.gz", "cifar-100-python", ["train"], "test", b"fine_labels"),
    }[name]

    def read(file: str) -> tuple[np.ndarray, np.ndarray]:
        plain = folder / unpacked / file
        if plain.exists():
            with plain.open("rb") as stream:
                batch = _NumbersOnly(stream, encoding="bytes").load()
        elif (folder / packed).exists():
            with tarfile.open(folder / packed) as archive:
                member = archive.extractfile(f"{unpacked}/{file}")
                assert member is not None  # extractfile raises KeyError for what is absent, None for directories only
                batch = _NumbersOnly(member, encoding="bytes").load()
        else:
            raise DataError(f"data set '{name}': neither {packed} nor {unpacked}/ in {folder}; put one of them there")
        return batch[b"data"].reshape(-1, 3, 32, 32), np.asarray(batch[key])

    batches = [read(file) for file in train_files]
    train = np.concatenate([images for images, _ in batches]), np.concatenate([labels for _, labels in batches])
    return _dataset(name, train, read(test_file), 10 if name == "cifar10" else 100)


def _image_folder(folder: Path) -> Dataset:
    """`DIR/train/<class>/*` and `DIR/test/<class>/*`; every image must have the same size."""
    from PIL import Image  # comes with scikit-learn's plotting or matplotlib; named in the error when it is missing

    classes = sorted(path.name for path in (folder / "train").glob("*") if path.is_dir())
    if not classes:
        raise DataError(f"data set 'imagefolder:{folder}': no folders in {folder / 'train'}; expected train/<class>/*")
    splits = []
    for split in ("train", "test"):
        images: list[np.ndarray] = []
        labels: list[int] = []
        for label, name in enumerate(classes):
            for path in sorted((folder / split / name).glob("*")):
                with Image.open(path) as image:
                    pixels = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
                if images and pixels.shape != images[0].shape:
                    raise DataError(f"{path}: size {pixels.shape[1:]}, others {images[0].shape[1:]}; resize them all")
                images.append(pixels)
                labels.append(label)
        if not images:
            raise DataError(f"data set 'imagefolder:{folder}': no images in {folder / split}; expected <class>/*")
        splits.append((np.stack(images), np.asarray(labels)))
    return _dataset(f"imagefolder:{folder}", splits[0], splits[1], len(classes))


def _npz(path: Path) -> Dataset:
    """A file with train_images, train_labels, test_images, test_labels."""
    if not path.exists():
        raise DataError(f"data set 'npz:{path}': no such file")
    with np.load(path, allow_pickle=False) as archive:
        missing = {"train_images", "train_labels", "test_images", "test_labels"} - set(archive.files)
        if missing:
            raise DataError(f"{path}: lacks {', '.join(sorted(missing))}; it holds {', '.join(archive.files)}")
        train = archive["train_images"], archive["train_labels"]
        test = archive["test_images"], archive["test_labels"]
    return _dataset(f"npz:{path}", train, test)


def _from_function(module: str, function: str) -> Dataset:
    """`module:function` returns (train_images, train_labels, test_images, test_labels)."""
    make = import_function(module, function, DataError)
    train_images, train_labels, test_images, test_labels = make()
    return _dataset(f"{module}:{function}", (train_images, train_labels), (test_images, test_labels))


def import_function(module: str, function: str, error: type[Exception]) -> Callable[..., Any]:
    """The function that `module:function` names, or one clear error."""
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as cause:
        raise error(f"'{module}:{function}' cannot be imported ({cause}); is it on PYTHONPATH?") from cause
    return found
