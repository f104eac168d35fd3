"""Data sets from files made here; the shipped digits; every way a set can be missing or broken is one clear error."""

import gzip
import io
import pickle
import struct
import tarfile

import numpy as np
import pytest

from codesign.errors import DataError
from codesign.nn.data import load_dataset


def idx(array: np.ndarray) -> bytes:
    """The IDX layout, written from its description: magic, big-endian sizes, bytes."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


@pytest.fixture
def fashion(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 7), ("t10k", 3)):
        images = rng.integers(0, 256, (count, 28, 28))
        (tmp_path / f"{split}-images-idx3-ubyte").write_bytes(idx(images))
        with gzip.open(tmp_path / f"{split}-labels-idx1-ubyte.gz", "wb") as stream:
            stream.write(idx(np.arange(count) % 10))
    return tmp_path


def test_digits_are_1797_images_in_two_disjoint_parts():
    digits = load_dataset("digits")
    assert digits.image_shape == (1, 8, 8)
    assert len(digits.train_labels) + len(digits.test_labels) == 1797
    assert digits.train_images.max() == 1.0
    assert digits.train_images.min() == 0.0
    assert set(digits.train_labels) == set(digits.test_labels) == set(range(10))
    assert load_dataset("digits").sha256 == digits.sha256


def test_fashion_mnist_reads_plain_and_gzipped_idx(fashion):
    data = load_dataset("fashion-mnist", fashion)
    assert data.train_images.shape == (7, 1, 28, 28)
    raw = np.frombuffer((fashion / "train-images-idx3-ubyte").read_bytes()[16:], np.uint8)
    assert np.array_equal(data.train_images.ravel(), raw.astype(np.float32) / np.float32(255))
    assert list(data.test_labels) == [0, 1, 2]


def test_a_truncated_file_is_named(fashion):
    path = fashion / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte: holds .* bytes, its header says \(7, 28, 28\)"):
        load_dataset("fashion-mnist", fashion)


def test_a_missing_set_says_how_to_get_it(tmp_path):
    with pytest.raises(DataError, match="apt-get install dataset-fashion-mnist"):
        load_dataset("fashion-mnist", tmp_path)
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz"):
        load_dataset("cifar10", tmp_path)
    with pytest.raises(DataError, match=r"set data\.folder"):
        load_dataset("cifar10")
    with pytest.raises(DataError, match="unknown data set 'digit'; did you mean 'digits'"):
        load_dataset("digit")


@pytest.mark.parametrize("packed", [True, False])
def test_cifar_reads_the_python_archive(tmp_path, packed):
    rng = np.random.default_rng(0)
    batches = {}
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        pixels = rng.integers(0, 256, (2, 3072), dtype=np.uint8)
        batches[name] = pickle.dumps({b"data": pixels, b"labels": [3, 9]}, protocol=2)
    if packed:
        with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as archive:
            for name, raw in batches.items():
                entry = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
                entry.size = len(raw)
                archive.addfile(entry, io.BytesIO(raw))
    else:
        (tmp_path / "cifar-10-batches-py").mkdir()
        for name, raw in batches.items():
            (tmp_path / "cifar-10-batches-py" / name).write_bytes(raw)
    data = load_dataset("cifar10", tmp_path)
    assert data.train_images.shape == (10, 3, 32, 32)
    first = pickle.loads(batches["data_batch_1"])[b"data"][0].reshape(3, 32, 32)
    assert np.array_equal(data.train_images[0], first.astype(np.float32) / np.float32(255))


def test_an_archive_that_wants_to_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("gotcha",))

    (tmp_path / "cifar-10-batches-py").mkdir()
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        (tmp_path / "cifar-10-batches-py" / name).write_bytes(pickle.dumps(Evil()))
    with pytest.raises(DataError, match=r"the archive asks for builtins\.print"):
        load_dataset("cifar10", tmp_path)


def test_npz_and_image_folder(tmp_path):
    from PIL import Image

    images = np.zeros((4, 1, 5, 5), np.float32)
    np.savez(
        tmp_path / "a.npz",
        train_images=images,
        train_labels=np.arange(4),
        test_images=images,
        test_labels=np.arange(4),
    )
    assert load_dataset(f"npz:{tmp_path / 'a.npz'}").classes == 4
    np.savez(tmp_path / "b.npz", train_images=images)
    with pytest.raises(DataError, match="lacks test_images, test_labels, train_labels"):
        load_dataset(f"npz:{tmp_path / 'b.npz'}")
    for split in ("train", "test"):
        for name, value in (("cat", 10), ("dog", 20)):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (6, 4), (value, 0, 0)).save(tmp_path / split / name / "0.png")
    data = load_dataset(f"imagefolder:{tmp_path}")
    assert data.image_shape == (3, 4, 6)
    assert list(data.train_labels) == [0, 1]
    assert data.train_images[1, 0, 0, 0] == np.float32(20) / np.float32(255)


def test_nan_images_and_labels_outside_are_refused(tmp_path):
    images = np.zeros((2, 1, 2, 2), np.float32)
    images[0, 0, 0, 0] = np.nan
    labels = np.zeros(2, np.int64)
    path = tmp_path / "a.npz"
    np.savez(path, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    with pytest.raises(DataError, match="NaN"):
        load_dataset(f"npz:{path}")
    images[:] = 0
    np.savez(path, train_images=images, train_labels=labels - 1, test_images=images, test_labels=labels)
    with pytest.raises(DataError, match="labels must lie in 0"):
        load_dataset(f"npz:{path}")
