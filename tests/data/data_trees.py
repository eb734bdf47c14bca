"""Small trees of image files, as the official archives and users have them."""

from pathlib import Path

import numpy as np
from PIL import Image

IDENTIFIERS = ("n02", "n01", "n03")


def colour(number, size=8):
    """(H, W, 3) uint8."""
    return (
        ((np.arange(size * size * 3) * 7 + 31 * number) % 256)
        .astype(np.uint8)
        .reshape(size, size, 3)
    )


def grey(number, size=8):
    """(H, W) uint8."""
    return colour(number, size)[..., 0]


def save(file: Path, pixels) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def tiny_imagenet(root: Path, *, per_class=5, held_out=2) -> Path:
    """Tiny ImageNet's layout with three classes; one training image is grey, as some are."""
    folder = root / "tiny-imagenet-200"
    lines = []
    for place, identifier in enumerate(IDENTIFIERS):
        images = folder / "train" / identifier / "images"
        for number in range(per_class):
            pixels = colour(10 * place + number, 64)
            is_grey = (identifier, number) == ("n01", 1)
            save(images / f"{identifier}_{number}.JPEG", pixels[..., 0] if is_grey else pixels)
        (images.parent / f"{identifier}_boxes.txt").write_text("n01_0.JPEG\t0\t0\t63\t63\n")
        for number in range(held_out):
            name = f"val_{place * held_out + number}.JPEG"
            save(folder / "val" / "images" / name, colour(100 + 10 * place + number, 64))
            lines.append(f"{name}\t{identifier}\t0\t0\t63\t63\n")
    (folder / "wnids.txt").write_text("".join(f"{name}\n" for name in IDENTIFIERS))
    (folder / "words.txt").write_text("n01\ttench\nn02\tgoldfish\nn03\tshark\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    save(folder / "test" / "images" / "test_0.JPEG", colour(0, 64))
    return folder


def image_folder(root: Path, *, pixels=colour, suffix="png", held_out="test") -> Path:
    """Two classes, five training images and two test images each, in lossless files."""
    for place, name in enumerate(("cat", "dog")):
        for number in range(5):
            save(root / "train" / name / f"{number}.{suffix}", pixels(10 * place + number))
        for number in range(2):
            save(root / held_out / name / f"{number}.{suffix}", pixels(50 + 10 * place + number))
    return root
