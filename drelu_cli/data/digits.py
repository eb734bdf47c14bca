"""`digits`: 1,797 real handwritten digits of 8x8 pixels that come with scikit-learn.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository.
"""

from __future__ import annotations

from pathlib import Path

import torch

from drelu_cli.data.contract import Raw
from drelu_cli.runtime.streams import permutation

_TEST = 360
# Intensities are counts of set pixels in 4x4 blocks: 0 .. 16.
_BRIGHTEST = 16


def digits(data_dir: Path, /) -> Raw:  # noqa: ARG001 - embedded: nothing is looked for there
    """8x8x1 images, 10 classes; the test split is a fixed permutation's last 360."""
    # scikit-learn takes about a second to import and is needed here only.
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)
    counts = torch.from_numpy(values).reshape(-1, 1, 8, 8)
    images = (counts * (255 / _BRIGHTEST)).round().to(torch.uint8)
    targets = torch.from_numpy(labels).to(torch.int64)
    order = permutation(0, "digits/test", len(targets))
    train, test = order[:-_TEST], order[-_TEST:]
    return Raw(images[train], targets[train], images[test], targets[test], classes=10)
