"""A file of adversarial points: what it holds, what is refused, and what makes a point invalid."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from drelu_cli.core.errors import BadValue
from drelu_cli.evaluation.proof import Proof, check, still_broken
from drelu_cli.evaluation.proof_file import check_replaceable, read_proof, write_proof

CPU = torch.device("cpu")
# One pixel, two classes: class 1 above 0.5. The fourth image is misclassified as it is.
IMAGES = torch.tensor([100, 110, 150, 160, 20], dtype=torch.uint8).reshape(5, 1, 1, 1)
LABELS = torch.tensor([0, 0, 1, 0, 0])


class Threshold(nn.Module):
    def forward(self, x):
        score = x.flatten(1) - 0.5
        return torch.cat([-score, score], dim=1)


def proof(**changes) -> Proof:
    found = Proof(
        x_adv=np.array([0.55, 0.53, 0.45], dtype=np.float32).reshape(3, 1, 1, 1),
        clean=IMAGES[:3].numpy(),
        index=np.array([0, 1, 2]),
        label=LABELS[:3].numpy(),
        predicted=np.array([1, 1, 0]),
        attack=np.array(["pgd", "pgd:steps=5", "square"]),
        clean_wrong=np.array([3]),
        list=np.array([4, 0, 1, 2, 3]),
        norm="linf",
        eps=0.2,
        dataset="pixels",
        dataset_digest="d",
        model="threshold",
        weights_digest="w",
        version="0",
    )
    return replace(found, **changes)


def checked(one: Proof):
    return check(one, Threshold(), IMAGES, LABELS, CPU)


def reasons(one: Proof):
    return {failure.index: failure.why for failure in checked(one).failures}


def test_valid_points_give_the_bound():
    found = checked(proof())
    assert found.failures == ()
    assert (found.valid, found.valid_clean_wrong, found.samples) == (3, 1, 5)
    assert found.robust_accuracy_at_most == pytest.approx(0.2)


def points(*values):
    return np.array(values, dtype=np.float32).reshape(-1, 1, 1, 1)


LEAST = 100 / 255 + 0.2  # where the ball of the first image ends


@pytest.mark.parametrize(
    ("changes", "index", "why"),
    [
        ({"index": np.array([9, 1, 2])}, 9, "no test image has this index"),
        ({"index": np.array([-5, 1, 2])}, -5, "no test image has this index"),
        ({"list": np.array([4, 1, 2, 3])}, 0, "not in the list of samples"),
        ({"clean": IMAGES[:3].numpy() + np.uint8(1)}, 0, "the clean image is not the data set's"),
        ({"label": np.array([1, 0, 1])}, 0, "the label is not the data set's"),
        ({"x_adv": points(1.01, 0.53, 0.45), "eps": 0.9}, 0, "the point is outside the box"),
        ({"x_adv": points(np.nan, 0.53, 0.45)}, 0, "the point is outside the box"),
        ({"x_adv": points(LEAST + 3e-6, 0.53, 0.45)}, 0, "the point is outside the ball"),
        ({"x_adv": points(0.49, 0.53, 0.45)}, 0, "the point is classified correctly"),
        ({"clean_wrong": np.array([3, 3])}, 3, "a sample twice"),
        ({"clean_wrong": np.array([3, 4])}, 4, "the clean image is classified correctly"),
        ({"clean_wrong": np.array([3, 7])}, 7, "no test image has this index"),
        ({"list": np.array([0, 1, 2, 4])}, 3, "not in the list of samples"),
    ],
)
def test_each_reason(changes, index, why):
    assert reasons(proof(**changes))[index] == why


def test_a_sample_counts_once():
    first = np.array([True, True, True])
    twice = proof(
        **{
            name: np.concatenate([getattr(proof(), name)[first], getattr(proof(), name)[:1]])
            for name in ("x_adv", "clean", "index", "label", "predicted", "attack")
        }
    )
    found = checked(twice)
    assert [(one.index, one.why) for one in found.failures] == [(0, "a sample twice")]
    assert found.valid == 3


def test_a_misclassified_image_needs_no_point():
    found = proof(
        index=np.array([3, 1, 2]), clean=IMAGES[[3, 1, 2]].numpy(), label=LABELS[[3, 1, 2]].numpy()
    )
    assert reasons(found) == {3: "the clean image is misclassified"}


def test_the_ball_has_the_tolerance_of_the_judge():
    assert reasons(proof(x_adv=points(LEAST + 5e-7, 0.53, 0.45))) == {}


def test_l2_is_measured_over_the_whole_image():
    images = torch.full((1, 1, 2, 2), 100, dtype=torch.uint8)
    x_adv = (images.float() / 255 + 0.15).numpy()  # L2 0.3, Linf 0.15

    class Mean(Threshold):
        def forward(self, x):
            return super().forward(x.mean(dim=(1, 2, 3))[:, None])

    one = proof(
        x_adv=x_adv, clean=images.numpy(), index=np.array([0]), label=np.array([0]),
        predicted=np.array([1]), attack=np.array(["pgd"]), clean_wrong=np.zeros(0, np.int64),
        list=np.array([0]), norm="l2", eps=0.29,
    )  # fmt: skip
    for eps, valid in ((0.29, 0), (0.31, 1)):
        found = check(replace(one, eps=eps), Mean(), images, torch.tensor([0]), CPU)
        assert found.valid == valid


def test_the_models_modes_are_put_back():
    model = nn.Sequential(nn.Dropout(0.99), Threshold()).train()
    assert check(proof(), model, IMAGES, LABELS, CPU).valid == 3
    assert all(module.training for module in model.modules())


def test_still_broken_keeps_what_breaks():
    kept = still_broken(proof(x_adv=points(0.55, 0.49, 0.9)), Threshold(), CPU)
    assert kept.tolist() == [True, False, False]
    assert proof().points(kept).attack.tolist() == ["pgd"]


def test_a_file_comes_back_as_it_was(tmp_path):
    write_proof(tmp_path / "p.npz", proof())
    back = read_proof(tmp_path / "p.npz")
    for name, value in vars(proof()).items():
        assert np.array_equal(getattr(back, name), value), name
        assert type(getattr(back, name)) is type(value), name
    assert [path.name for path in tmp_path.iterdir()] == ["p.npz"]


def test_a_proof_without_points(tmp_path):
    nothing = proof().points(np.zeros(3, dtype=np.bool_))
    write_proof(tmp_path / "p.npz", nothing)
    found = checked(read_proof(tmp_path / "p.npz"))
    assert (found.valid, found.robust_accuracy_at_most) == (0, pytest.approx(0.8))


def saved(path, **changes):
    """The file with some arrays changed; None leaves one out."""
    arrays = {**vars(proof()), **changes}
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})


def archive(path, member, content):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(member, content)


def pickled(path):
    array = np.array([{"a": 1}], dtype=object)
    content = io.BytesIO()
    np.save(content, array, allow_pickle=True)
    write_proof(path, proof())
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, old in members.items():
            file.writestr(name, content.getvalue() if name == "attack.npy" else old)


def truncated(path):
    write_proof(path, proof())
    path.write_bytes(path.read_bytes()[:-300])


def flipped(path):
    write_proof(path, proof())
    content = bytearray(path.read_bytes())
    content[60] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "there is no file"),
        (lambda path: path.mkdir(), "there is no file"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: path.write_text("not an archive"), "cannot be read"),
        (lambda path: np.save(path.open("wb"), np.zeros(3)), "no zip archive"),
        (lambda path: archive(path, "a.txt", "text"), "it has no x_adv"),
        (pickled, "cannot be read as an .npz file without pickles"),
        (truncated, "cannot be read"),
        (flipped, "cannot be read"),
        (lambda path: saved(path, eps=None), "it has no eps"),
        (lambda path: saved(path, label=np.zeros(3)), "label is float64"),
        (lambda path: saved(path, index=np.arange(2)), "differ in length"),
        (lambda path: saved(path, clean=np.zeros((3, 1, 2, 1), np.uint8)), "differ in shape"),
        (lambda path: saved(path, list=np.array([1, 1])), "names one twice"),
        (lambda path: saved(path, list=np.zeros(0, np.int64)), "empty"),
        (lambda path: saved(path, norm="l1"), "unknown norm 'l1'"),
        (lambda path: saved(path, eps=np.nan), "eps nan"),
    ],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_what_is_no_proof_is_named(tmp_path, make, message):
    path = tmp_path / "p.npz"
    make(path)
    with pytest.raises(BadValue) as problem:
        read_proof(path)
    assert message in problem.value.message
    assert "p.npz" in problem.value.message


def test_only_its_own_files_are_replaced(tmp_path):
    path = tmp_path / "p.npz"
    check_replaceable(path)
    write_proof(path, proof())
    check_replaceable(path)
    np.savez(path, images=np.zeros(3))
    before = path.read_bytes()
    with pytest.raises(BadValue, match="is not replaced"):
        check_replaceable(path)
    assert path.read_bytes() == before
    with pytest.raises(BadValue, match=r"does not end in \.npz"):
        check_replaceable(tmp_path / "p.pt")
