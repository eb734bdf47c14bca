import os
import pickle
import stat
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from drelu_cli.core.errors import CheckpointError
from drelu_cli.models.checkpoints import load_into, read_weights, save_weights, weights_digest

FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
DTYPES = [*FLOATS, torch.int64, torch.int32, torch.uint8, torch.bool]


class Holder(nn.Module):
    """A module whose state is exactly `tensors`."""

    def __init__(self, tensors):
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)


@st.composite
def tensors(draw):
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    count = int(torch.tensor(shape).prod()) if shape else 1
    raw = draw(st.lists(st.integers(0, 1), min_size=count, max_size=count))
    values = torch.tensor(raw, dtype=torch.float64).reshape(shape) * draw(st.integers(1, 100))
    if dtype in FLOATS and draw(st.booleans()):
        values = values / 0  # infinities and NaN survive, too
    out = values.to(dtype)
    return out.mT if out.dim() > 1 and draw(st.booleans()) else out


names = st.from_regex(r"[a-z][a-z_0-9é]{0,8}", fullmatch=True).filter(
    lambda name: not hasattr(nn.Module(), name)
)
states = st.dictionaries(names, tensors(), min_size=1, max_size=4)


def same(a, b):
    return (
        a.dtype == b.dtype
        and a.shape == b.shape
        and weights_digest({"": a}) == weights_digest({"": b})
    )


@settings(deadline=None, max_examples=100)
@given(state=states, metadata=st.dictionaries(st.text(max_size=5), st.text(max_size=9), max_size=3))
def test_what_is_written_is_read_back(tmp_path_factory, state, metadata):
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    model = Holder(state)
    digest = save_weights(path, model, metadata=metadata)
    back, noted = read_weights(path)
    assert noted == metadata
    assert set(back) == set(state)
    assert all(same(back[name], state[name]) for name in state)
    assert digest == weights_digest(model) == weights_digest(back)


@settings(deadline=None, max_examples=50)
@given(state=states, wrap=st.sampled_from(["plain", "state_dict", "list", "both"]))
def test_state_dicts_of_torch_save_are_read_and_unwrapped(tmp_path_factory, state, wrap):
    path = tmp_path_factory.mktemp("weights") / "weights.pt"
    wrapped = {
        "plain": state,
        "state_dict": {"state_dict": state, "epoch": 3},
        "list": [state],
        "both": [{"state_dict": state}],
    }
    torch.save(wrapped[wrap], path)
    back, noted = read_weights(path)
    assert noted == {}
    assert weights_digest(back) == weights_digest(state)


@pytest.mark.parametrize("protocol", [2, 3])
def test_pickle_protocols_that_torch_reads_without_code(tmp_path, protocol):
    torch.save({"w": torch.ones(3)}, tmp_path / "w.pt", pickle_protocol=protocol)
    assert torch.equal(read_weights(tmp_path / "w.pt")[0]["w"], torch.ones(3))


def test_a_newer_pickle_protocol_is_refused_without_torchs_advice_to_trust_it(tmp_path):
    torch.save({"w": torch.ones(3)}, tmp_path / "w.pt", pickle_protocol=4)
    with pytest.raises(
        CheckpointError, match=r"w\.pt cannot be loaded as weights only: Unsupp"
    ) as e:
        read_weights(tmp_path / "w.pt")
    assert "weights_only" not in e.value.message


def test_the_digest_sees_name_dtype_shape_and_bytes():
    base = {"w": torch.zeros(2, 3)}
    others = [
        {"v": torch.zeros(2, 3)},
        {"w": torch.zeros(3, 2)},
        {"w": torch.zeros(2, 3, dtype=torch.int32)},
        {"w": torch.tensor([[0.0, 0, 0], [0, 0, -0.0]])},
        {"w": torch.zeros(2, 3), "v": torch.zeros(0)},
    ]
    digests = [weights_digest(state) for state in [base, *others]]
    assert len(set(digests)) == len(digests)
    assert weights_digest({"a": base["w"], "b": base["w"]}) == weights_digest(
        {"b": base["w"], "a": base["w"]}
    )


def test_tied_weights_can_be_saved(tmp_path):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    save_weights(tmp_path / "w.safetensors", model, metadata={})
    state, _ = read_weights(tmp_path / "w.safetensors")
    assert torch.equal(state["0.weight"], state["1.weight"])


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin"])
@pytest.mark.parametrize("form", ["zip", "legacy", "bare", "nested"])
def test_a_hostile_pickle_is_refused_and_not_executed(tmp_path, form, suffix):
    trace = tmp_path / "executed"
    path = tmp_path / f"weights{suffix}"
    hostile = Hostile(trace)
    if form == "bare":
        path.write_bytes(pickle.dumps(hostile, protocol=2))
    else:
        body = {"state_dict": {"w": torch.zeros(1), "x": hostile}} if form == "nested" else hostile
        torch.save(body, path, _use_new_zipfile_serialization=form != "legacy")
    with pytest.raises(CheckpointError, match="execute code") as caught:
        read_weights(path)
    assert path.name in caught.value.message
    assert "state_dict" in caught.value.hint
    assert not trace.exists()
    pickle.loads(pickle.dumps(hostile))
    assert trace.exists(), "the pickle was not hostile: this test would prove nothing"


def test_a_pickle_called_safetensors_is_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    torch.save({"w": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        read_weights(path)


@pytest.mark.parametrize("kind", ["safetensors", "pt"])
@pytest.mark.parametrize("kept", [0, 1, 8, 9, 20, 100, 0.5, 0.9, -1])
def test_a_truncated_file_is_named(tmp_path, kind, kept):
    path = tmp_path / f"weights.{kind}"
    model = nn.Linear(16, 16)
    if kind == "pt":
        torch.save(model.state_dict(), path)
    else:
        save_weights(path, model, metadata={})
    body = path.read_bytes()
    path.write_bytes(body[: int(len(body) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(CheckpointError, match=path.name):
        read_weights(path)


def test_a_tensor_marked_as_a_folder_is_refused(tmp_path):
    # torch reads it as whatever the memory held.
    path = tmp_path / "weights.pt"
    torch.save({"w": torch.arange(32.0)}, path)
    with zipfile.ZipFile(path) as archive:
        entry = next(e for e in archive.infolist() if e.filename.endswith("data/0"))
    body = bytearray(path.read_bytes())
    directory = body.rindex(entry.filename.encode())
    body[directory - 46 + 38] |= 0x10
    path.write_bytes(body)
    with pytest.raises(CheckpointError, match="marked a folder"):
        read_weights(path)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_a_flipped_bit_never_gives_other_content(tmp_path_factory, kind, data):
    path = tmp_path_factory.mktemp("weights") / f"weights.{kind}"
    state = {"w": torch.arange(32.0), "b": torch.ones(3)}
    if kind == "pt":
        torch.save(state, path)
    else:
        save_weights(path, Holder(state), metadata={"recipe": "x"})
    body = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(body) - 1))
    body[position] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(body)
    try:
        back, noted = read_weights(path)
    except CheckpointError:
        return
    assert weights_digest(back) == weights_digest(state)
    assert kind == "pt" or noted["recipe"] == "x"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"w": torch.zeros(2), "epoch": 3}, "'epoch' is no plain tensor but int"),
        ({1: torch.zeros(2)}, "'1' is no plain tensor"),
        (torch.zeros(3), "holds a Tensor, not a state dict"),
        ([torch.zeros(1), torch.zeros(1)], "holds a list"),
        ({"w": torch.eye(2).to_sparse()}, "no plain tensor"),
    ],
)
def test_what_is_no_state_dict_is_named(tmp_path, content, words):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=words):
        read_weights(tmp_path / "w.pt")


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.pt cannot be read: No such file"):
        read_weights(tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_weights(tmp_path)
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_weights(tmp_path / "none" / "w.safetensors", nn.Linear(1, 1), metadata={})


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_behind(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    model = nn.Linear(2, 2)
    digest = save_weights(path, model, metadata={})

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left"):
        save_weights(path, nn.Linear(2, 2), metadata={})
    monkeypatch.undo()
    assert [file.name for file in tmp_path.iterdir()] == ["w.safetensors"]
    assert weights_digest(read_weights(path)[0]) == digest


def test_a_checkpoint_is_as_readable_as_other_files(tmp_path):
    save_weights(tmp_path / "w.safetensors", nn.Linear(1, 1), metadata={})
    (tmp_path / "other").write_text("")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("w.safetensors", "other")]
    assert modes[0] == modes[1]


def test_loading_is_strict_and_all_or_nothing():
    model = nn.Linear(3, 2)
    before = weights_digest(model)
    cases = {
        "missing bias": {"weight": torch.zeros(2, 3)},
        "unexpected extra": {**model.state_dict(), "extra": torch.zeros(1)},
        r"weight has shape \(3, 2\), the model's \(2, 3\)": {
            "weight": torch.zeros(3, 2),
            "bias": torch.zeros(2),
        },
        "bias is torch.float64, the model's torch.float32": {
            "weight": torch.zeros(2, 3),
            "bias": torch.zeros(2, dtype=torch.float64),
        },
    }
    for words, state in cases.items():
        with pytest.raises(CheckpointError, match=f"w.pt does not fit the model: .*{words}"):
            load_into(model, state, where="w.pt")
        assert weights_digest(model) == before


def test_loading_copies_and_widens_without_loss():
    model = nn.Linear(3, 2)
    state = {name: torch.full_like(own, 0.5).half() for name, own in model.state_dict().items()}
    load_into(model, state, where="w.pt")
    assert model.weight.dtype == torch.float32
    assert model.weight.unique().tolist() == [0.5]
    state["weight"].fill_(9)
    assert model.weight.unique().tolist() == [0.5]
