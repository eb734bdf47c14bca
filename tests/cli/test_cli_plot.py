"""`drelu plot` as a user types it."""

import pytest


def test_it_writes_three_files_and_says_so(drelu, small_store, tmp_path):
    ran = drelu("plot", "--over", "lambda", "--store", small_store, "--out", "figure.pdf")
    assert ran.code == 0, ran.err
    assert "written: figure.png, figure.svg, figure.csv" in ran.out
    assert {path.name for path in tmp_path.iterdir()} == {"figure.png", "figure.svg", "figure.csv"}
    assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"


def test_json_is_one_document(drelu, small_store):
    ran = drelu("plot", "--over", "eps", "--attack", "pgd", "--store", small_store, "--json")
    assert ran.code == 0, ran.err
    document = ran.document
    assert document["command"] == "plot"
    assert document["figure"]["over"] == "eps"
    assert document["files"] == ["over-eps.png", "over-eps.svg", "over-eps.csv"]
    accuracies = [point["mean"] for point in document["points"]]
    assert accuracies
    assert all(0 <= accuracy <= 1 for accuracy in accuracies)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "plot over what?"),
        (("--over", "lamda"), "unknown axis 'lamda'"),
        (("smoke", "--over", "lambda", "--preset", "tiny"), "drelu sweep smoke"),
    ],
)
def test_mistakes_are_two_lines(drelu, small_store, words, message):
    ran = drelu("plot", *words, "--store", small_store)
    assert ran.code == 2
    assert message in ran.err
    assert len(ran.err.splitlines()) <= 2
    assert "Traceback" not in ran.err


@pytest.mark.slow
def test_a_recipe_from_sweep_to_plot(drelu, tmp_path):
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        "[attack]\nsuite = 'smoke'\n[grid]\n'penalty.lambda' = [0.0, 1.0]\n"
        "[report]\nplot = 'lambda'\n[presets.tiny.grid]\n'penalty.lambda' = [0.0, 0.1, 1.0]\n"
    )
    assert drelu("sweep", recipe, "--preset", "tiny").code == 0
    ran = drelu("plot", recipe, "--preset", "tiny", "--json")
    assert ran.code == 0, ran.err
    points = ran.document["points"]
    assert len({point["x"] for point in points if point["series"] == "clean"}) >= 1
    assert {path.suffix for path in tmp_path.glob("mine.*")} == {".toml", ".png", ".svg", ".csv"}
    assert any(":" in point["series"] for point in points)  # tiny cuts the attacks' steps
