"""What starts fast must stay fast: by the set of imported modules, not by seconds."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "torchvision", "pandas", "scipy", "sklearn", "matplotlib"}

SCRIPT = """
import sys
sys.argv = ["drelu", *{words!r}]
from drelu_cli.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("IMPORTED", sorted({heavy!r} & set(sys.modules)), file=sys.stderr)
"""


def imported(words, cwd):
    script = SCRIPT.format(words=words, heavy=HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.split("IMPORTED")[1].strip()


@pytest.mark.parametrize(
    "words", [["--help"], ["train", "--help"], ["plot", "--help"], ["--version"], ["list"]]
)
def test_help_and_list_import_neither_torch_nor_pandas(words, tmp_path):
    assert imported(words, tmp_path) == "[]"


def test_list_of_a_filled_store_imports_neither(tmp_path, small_store):
    assert imported(["list", "--store", str(small_store)], tmp_path) == "[]"


def test_recipes_are_shown_without_torch(tmp_path):
    assert "torch" not in imported(["recipe", "show", "smoke"], tmp_path)


def test_public_names():
    import drelu_cli

    workflows = {"train", "attack", "sweep", "compare", "statistics", "audit", "verify"}
    workflows |= {"Context", "Wanted"}
    assert set(drelu_cli.__all__) == workflows | {"__version__"}
    for name in workflows:
        assert callable(getattr(drelu_cli, name)), name
    with pytest.raises(AttributeError, match="trian"):
        _ = drelu_cli.trian
