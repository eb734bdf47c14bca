"""What the official releases consist of: folders, files, sizes, md5s. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Official:
    """The files of a release that torchvision knows where to get.

    Attributes:
        name: the registered name.
        source: torchvision's class, which knows the addresses.
        folder: where its files lie below the data folder.
        files: name -> size in bytes and md5; None where it is not published.
    """

    name: str
    source: str
    folder: str
    files: dict[str, tuple[int | None, str | None]]


@dataclass(frozen=True)
class Archive:
    """A release that is one zip archive of images.

    Attributes:
        name: the registered name.
        folder: what the archive unpacks to, below the data folder.
        url: where the archive is.
        size: in bytes.
        md5: of the archive.
    """

    name: str
    folder: str
    url: str
    size: int
    md5: str


# Below the data folder: what drelu derived from data and can derive again.
CACHE = "cache"
# The file that lists the classes of Tiny ImageNet, one WordNet identifier per line.
WORDNET_IDS = "wnids.txt"

MNIST = Official(
    "mnist",
    "MNIST",
    "MNIST/raw",
    {
        "train-images-idx3-ubyte": (47_040_016, "6bbc9ace898e44ae57da46a324031adb"),
        "train-labels-idx1-ubyte": (60_008, "a25bea736e30d166cdddb491f175f624"),
        "t10k-images-idx3-ubyte": (7_840_016, "2646ac647ad5339dbf082846283269ea"),
        "t10k-labels-idx1-ubyte": (10_008, "27ae3e4e09519cfbb04c329615203637"),
    },
)
FASHION_MNIST = Official(
    "fashion_mnist",
    "FashionMNIST",
    "FashionMNIST/raw",
    {name: (size, None) for name, (size, _) in MNIST.files.items()},
)
# md5 as torchvision lists them; sizes of the files that have these md5.
CIFAR10 = Official(
    "cifar10",
    "CIFAR10",
    "cifar-10-batches-py",
    {
        "data_batch_1": (31_035_704, "c99cafc152244af753f735de768cd75f"),
        "data_batch_2": (31_035_320, "d4bba439e000b95fd0a9bffe97cbabec"),
        "data_batch_3": (31_035_999, "54ebc095f3ab1f0389bbae665268c751"),
        "data_batch_4": (31_035_696, "634d18415352ddfa80567beed471001a"),
        "data_batch_5": (31_035_623, "482c414d41f54cd18b22e5b47cb7c3cb"),
        "test_batch": (31_035_526, "40351d587109b95175f43aff81a1287e"),
        "batches.meta": (158, "5ff9c542aee3614f3951f8cda6e48888"),
    },
)
CIFAR100 = Official(
    "cifar100",
    "CIFAR100",
    "cifar-100-python",
    {
        "train": (155_249_918, "16019d7e3df5f24257cddd939b257f8d"),
        "test": (None, "f0ef6b0ae62326f3e7ffdfab6717acfc"),
        "meta": (None, "7973b15100ade9c7d40fb424638fde48"),
    },
)
# The sizes are 96 * 96 * 3 bytes an image and one a label; unlabelled images are not read.
STL10 = Official(
    "stl10",
    "STL10",
    "stl10_binary",
    {
        "train_X.bin": (138_240_000, "918c2871b30a85fa023e0c44e0bee87f"),
        "train_y.bin": (5_000, "5a34089d4802c674881badbb80307741"),
        "test_X.bin": (221_184_000, "7f263ba9f9e0b06b93213547f721ac82"),
        "test_y.bin": (8_000, "36f9794fa4beb8a2c72628de14fa638e"),
    },
)
TINY_IMAGENET = Archive(
    "tiny_imagenet",
    "tiny-imagenet-200",
    "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    248_100_043,
    "90528d7ca1a48142e341f4ef8d21d0de",
)
RELEASES: tuple[Official | Archive, ...] = (
    MNIST,
    FASHION_MNIST,
    CIFAR10,
    CIFAR100,
    TINY_IMAGENET,
    STL10,
)


def is_there(release: Official | Archive, data_dir: Path) -> bool:
    """Whether the release's files lie in the data folder; nothing is read or checked."""
    folder = data_dir / release.folder
    files = release.files if isinstance(release, Official) else (WORDNET_IDS,)
    return all((folder / name).is_file() for name in files)
