"""The six lines of the front page, and every command's result and JSON."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """The lines typed one after the other in an empty folder, without network."""
    folder = tmp_path_factory.mktemp("story")
    lines = [
        ["train"],
        ["train", "--activation", "relu"],
        ["attack", "--suite", "whitebox"],
        ["attack", "--suite", "adaptive"],
        ["compare", "--out", "table.md"],
        ["stats"],
    ]
    done = [
        subprocess.run(
            [sys.executable, "-m", "drelu_cli", *line],
            cwd=folder, capture_output=True, text=True, check=False,
        )
        for line in lines
    ]  # fmt: skip
    return folder, done


@pytest.mark.slow
def test_the_six_lines(story):
    folder, (first, twin, attack, adaptive, compare, stats) = story
    for step in (first, twin, attack, adaptive, compare, stats):
        assert step.returncode == 0, step.stderr
        assert "Traceback" not in step.stderr
    assert "D-ReLU-1" in first.stdout
    assert "ReLU" in twin.stdout
    assert "not examined" in attack.stdout
    assert "verdict: masked." in adaptive.stdout
    assert "verdict: no failure found." in adaptive.stdout
    table = (folder / "table.md").read_text()
    assert "**" in table
    assert "(1)" in table
    assert "Friedman" in stats.stdout


@pytest.mark.slow
def test_the_story_they_tell(story):
    """The capped net claims what its undefended twin does not have: the reason for this tool."""
    folder, _ = story
    ran = subprocess.run(
        [sys.executable, "-m", "drelu_cli", "compare", "--json"],
        cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    columns = json.loads(ran.stdout)["columns"]
    claimed = {row["training"]: row["claimed"] for row in columns if row["norm"] == "linf"}
    assert claimed["D-ReLU-1"] > 0.6
    assert claimed["ReLU"] < 0.1


def test_train_json_and_reuse(drelu):
    first = drelu("train", "--epochs", "1", "--json").document
    assert set(first) == {
        "drelu", "command", "schema", "model", "epochs", "stopped_by", "clean_accuracy",
        "validation_loss", "cap_mean", "cap_max", "seconds", "checkpoint", "reused", "pretrained",
    }  # fmt: skip
    assert set(first["model"]) >= {
        "key", "name", "dataset", "architecture", "activation", "placement", "scheme", "lambda",
        "cap", "seed",
    }  # fmt: skip
    assert first["model"]["lambda"] == 1.0
    assert not first["reused"]
    again = drelu("train", "--epochs", "1", "--json").document
    assert again["reused"]
    assert again["model"] == first["model"]
    forced = drelu("train", "--epochs", "1", "--force", "--json").document
    assert not forced["reused"]
    assert forced["clean_accuracy"] == first["clean_accuracy"]


def test_a_label_renames_without_training_again(drelu):
    drelu("train", "--epochs", "1")
    again = drelu("train", "--epochs", "1", "--label", "Mine", "--json").document
    assert again["reused"]
    assert again["model"]["label"] == "Mine"


def test_attack_json(drelu, own_store):
    document = drelu(
        "attack", "--store", own_store, "--suite", "smoke", "--samples", "40", "--json"
    ).document
    entry = document["evaluations"][0]
    assert set(entry) >= {
        "model", "name", "dataset", "suite", "engine", "threat", "samples", "clean_accuracy",
        "attacks", "worst_case", "columns", "verdict",
    }  # fmt: skip
    assert entry["samples"] == 40
    attack = entry["attacks"][0]
    assert set(attack) == {
        "attack", "params", "given", "robust_accuracy", "cumulative_robust_accuracy", "samples_run",
        "ci95", "median_distance", "forwards_per_sample", "backwards_per_sample", "seconds",
        "reused", "cascade",
    }  # fmt: skip
    assert attack["reused"]
    assert entry["verdict"]["word"] == "not examined"
    assert entry["columns"]["claimed"] is None
    left = [one["cumulative_robust_accuracy"] for one in entry["attacks"]]
    assert left == sorted(left, reverse=True)
    assert entry["worst_case"]["robust_accuracy"] == left[-1]


def test_more_samples_extend_fewer(drelu):
    drelu("train", "--epochs", "1")
    few = drelu("attack", "--suite", "smoke", "--samples", "20", "--json").document
    more = drelu("attack", "--suite", "smoke", "--samples", "30", "--json").document
    assert more["evaluations"][0]["samples"] == 30
    again = drelu("attack", "--suite", "smoke", "--samples", "20", "--json").document
    assert all(attack["reused"] for attack in again["evaluations"][0]["attacks"])
    shares = [d["evaluations"][0]["attacks"][0]["robust_accuracy"] for d in (few, again)]
    assert shares[0] == shares[1]
    drelu("export", "--out", "outcomes.csv")
    with Path("outcomes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 30
    assert len({(row["evaluation"], row["sample"]) for row in rows}) == 60


def test_an_eps_list_is_a_full_run_each(drelu, own_store):
    document = drelu(
        "attack", "--store", own_store, "--attack", "fgsm", "--eps", "0,0.1,51/255",
        "--samples", "40", "--json",
    ).document  # fmt: skip
    by_eps = [e["threat"]["eps"] for e in document["evaluations"][:3]]
    assert by_eps == [0.0, 0.1, 0.2]
    zero = document["evaluations"][0]
    assert zero["attacks"][0]["robust_accuracy"] == zero["clean_accuracy"]


def test_cw_l2_is_a_threat_of_its_own(drelu, own_store):
    document = drelu(
        "attack", "--store", own_store, "--attack", "cw_l2:search_steps=1,max_steps=5",
        "--attack", "fgsm", "--samples", "10", "--json",
    ).document  # fmt: skip
    threats = [(e["threat"]["norm"], e["threat"]["eps"]) for e in document["evaluations"][:2]]
    assert threats == [("l2", 0.8), ("linf", 0.2)]


def test_compare_writes_every_format(drelu, small_store, tmp_path):
    for ending in ("md", "tex", "csv", "html"):
        ran = drelu("compare", "--store", small_store, "--out", f"table.{ending}")
        assert ran.code == 0, ran.err
        assert "D-ReLU-1" in (tmp_path / f"table.{ending}").read_text()
    assert "the same" in ran.out


def test_compare_json(drelu, small_store):
    document = drelu("compare", "--store", small_store, "--json").document
    row = document["rows"][0]
    assert set(row) >= {
        "dataset", "architecture", "training", "attack", "norm", "eps", "mean", "std", "n_seeds",
        "rank", "best", "published",
    }  # fmt: skip
    clean = [row for row in document["rows"] if row["attack"] == "clean"]
    assert all(row["norm"] is None for row in clean)
    column = document["columns"][0]
    assert set(column) >= {
        "dataset", "architecture", "training", "norm", "eps", "claimed", "standard",
        "autoattack", "adaptive", "certified", "verdict", "per_seed_verdicts",
    }  # fmt: skip
    assert column["verdict"] == "not examined"


def test_compare_out_into_a_missing_folder(drelu, small_store):
    ran = drelu("compare", "--store", small_store, "--out", "no/folder/t.md")
    assert ran.code == 2
    assert "no folder" in ran.err


def test_sweep_runs_once_and_finds_it_again(drelu):
    words = ("sweep", "smoke", "--preset", "tiny", "--json")
    dry = drelu(*words, "--dry-run").document
    assert dry["trainings"] == {"planned": 2, "reused": 0, "done": 0, "failed": 0}
    first = drelu(*words)
    assert first.code == 0, first.err
    assert first.document["trainings"] == {"planned": 2, "reused": 0, "done": 2, "failed": 0}
    assert first.document["evaluations"]["done"] == 4
    second = drelu(*words).document
    assert second["trainings"]["reused"] == 2
    assert second["evaluations"] == {"planned": 4, "reused": 4, "done": 0, "failed": 0}
    dry = drelu(*words, "--dry-run").document
    assert dry["trainings"]["reused"] == 2
    assert dry["evaluations"]["reused"] == 4


def test_a_failed_job_does_not_stop_the_others(drelu, tmp_path):
    (tmp_path / "grid.toml").write_text(
        'train = { epochs = 1 }\nattack = { suite = "smoke", samples = 10 }\n'
        '[grid]\nactivation = ["relu"]\n"train.lr" = [1e37, 1e-3]\n'
    )
    ran = drelu("sweep", "grid.toml", "--json")
    assert ran.code == 1
    assert ran.document["trainings"] == {"planned": 2, "reused": 0, "done": 1, "failed": 1}
    assert "diverged" in ran.document["failures"][0]["error"]


def test_list_recipe_doctor_gc(drelu, small_store):
    items = drelu("list", "--store", small_store, "--json").document["items"]
    assert {"models", "activations", "attacks", "suites", "recipes"} <= {i["kind"] for i in items}
    assert "drelu" in drelu("list", "activations").out
    assert "no models" in drelu("list", "models").out
    shown = drelu("recipe", "show", "table1", "--json").document
    assert shown["recipes"][0]["data"]["name"] == "mnist"
    members = drelu("recipe", "show", "smoke", "--effective", "--json").document["recipes"]
    assert len(members) == 2
    doctor = drelu("doctor", "--store", small_store, "--json")
    assert doctor.code == 0, doctor.out
    assert all(check["ok"] for check in doctor.document["checks"])
    assert drelu("gc", "--store", small_store, "--dry-run", "--json").document["dry_run"]


def test_export_json(drelu, small_store):
    document = drelu("export", "models", "--store", small_store, "--json").document
    assert document["rows"] == 2
    assert len(document["items"]) == 2
    text = drelu("export", "models", "--store", small_store, "--format", "json").out
    assert len(json.loads(text)) == 2


def test_a_user_s_own_model_activation_and_attack(drelu, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "def net():\n"
        "    torch.nn.init\n"
        "    layer = nn.Linear(64, 10)\n"
        "    nn.init.eye_(layer.weight)\n"
        "    nn.init.zeros_(layer.bias)\n"
        "    return nn.Sequential(nn.Flatten(), layer)\n"
        "class Swish(nn.Module):\n"
        "    def __init__(self, channels, *, slope: float = 1.0):\n"
        "        super().__init__()\n"
        "        self.slope = slope\n"
        "    def forward(self, x):\n"
        "        return x * torch.sigmoid(self.slope * x)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    trained = drelu("train", "--activation", "mine:Swish", "--epochs", "1", "--json")
    assert trained.code == 0, trained.err
    ran = drelu("attack", "mine:net", "--attack", "fgsm", "--samples", "20", "--json")
    assert ran.code == 0, ran.err
    (entry,) = ran.document["evaluations"]
    assert entry["name"] == "net"
    # nn.Sequential comes in training mode: handled, named, stored.
    assert entry["findings"][0]["code"] == "model-in-training-mode"
    assert "training mode" in drelu("attack", "mine:net", "--attack", "fgsm", "--samples", "20").out
    bad = drelu("attack", "mine:nett", "--attack", "fgsm")
    assert bad.code == 2
    assert "did you mean net" in bad.err


def test_a_state_dict_from_a_file(drelu, tmp_path):
    import torch
    from safetensors.torch import load_file

    key = drelu("train", "--epochs", "1", "--json").document["model"]["key"]
    weights = tmp_path / "runs" / "models" / key / "weights.safetensors"
    torch.save({"state_dict": load_file(weights)}, tmp_path / "plain.pt")
    ran = drelu(
        "attack", "plain.pt", "--model", "dense", "--activation", "drelu",
        "--attack", "fgsm", "--samples", "30", "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    own = drelu("attack", key[:8], "--attack", "fgsm", "--samples", "30", "--json")
    pair = [r.document["evaluations"][0]["attacks"][0]["robust_accuracy"] for r in (ran, own)]
    assert pair[0] == pair[1]
    copied = tmp_path / "copy.safetensors"
    copied.write_bytes(weights.read_bytes())
    described = drelu("attack", copied, "--attack", "fgsm", "--samples", "30", "--json")
    assert described.code == 0, described.err
    unnamed = drelu("attack", "plain.pt", "--attack", "fgsm")
    assert unnamed.code == 2
    assert "--model dense" in unnamed.err


@pytest.mark.parametrize(
    "command",
    ["train", "attack", "sweep", "compare", "stats", "audit", "list", "export", "gc", "doctor"],
)
def test_every_command_has_help_with_examples(drelu, command):
    ran = drelu(command, "--help")
    assert ran.code == 0
    assert "Examples:" in ran.out
    assert f"drelu {command}" in ran.out


def test_version(drelu):
    from drelu_cli import __version__

    assert drelu("--version").out == f"drelu {__version__}\n"


def test_a_grid_over_eps_trains_once_and_attacks_at_each(drelu, tmp_path):
    (tmp_path / "grid.toml").write_text(
        'activation = "relu"\ntrain = { epochs = 1 }\nattack = { attacks = "fgsm", samples = 10 }\n'
        '[grid]\n"attack.eps" = [0.1, 0.2]\n'
    )
    document = drelu("sweep", "grid.toml", "--json").document
    assert document["trainings"] == {"planned": 1, "reused": 0, "done": 1, "failed": 0}
    assert document["evaluations"]["done"] == 2
    rows = drelu("compare", "--json").document["rows"]
    assert [row["eps"] for row in rows] == [None, 0.1, 0.2]


def test_a_factory_with_random_weights_is_refused_and_not_registered(drelu, tmp_path, monkeypatch):
    (tmp_path / "dice.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    ran = drelu("attack", "dice:net", "--attack", "fgsm")
    assert ran.code == 2
    assert "other weights at every call" in ran.err
    assert "no models" in drelu("list", "models").out


def test_a_model_can_be_removed_with_its_results(drelu, own_store):
    drelu("gc", "--store", own_store, "--remove", "digits-dense-relu-s0", "--dry-run")
    assert len(drelu("list", "models", "--store", own_store, "--json").document["items"]) == 2
    ran = drelu("gc", "--store", own_store, "--remove", "digits-dense-relu-s0", "--json")
    assert ran.document["removed"] == ["digits-dense-relu-s0"]
    assert ran.document["freed"] > 0
    (left,) = drelu("list", "models", "--store", own_store, "--json").document["items"]
    assert left["label"] == "D-ReLU-1"
    assert drelu("gc", "--store", own_store, "--remove", "gone").code == 2


@pytest.mark.parametrize("words", [[], ["recipe"]])
def test_a_group_without_a_command_shows_its_help(drelu, words):
    ran = drelu(*words)
    assert (ran.code, ran.err) == (0, "")
    assert "Commands:" in ran.out
