"""Every packaged recipe runs from end to end under the preset tiny, on small official files."""

import pytest
from small_releases import write_all

from drelu_cli.core.recipe import Recipe
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.recipes import read_source, recipe_names
from drelu_cli.workflows.sweep import sweep

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    """One store for all: what two recipes share is trained once."""
    root = tmp_path_factory.mktemp("recipes")
    with pytest.MonkeyPatch.context() as patch:
        (root / "data").mkdir()
        write_all(root / "data", patch)
        yield Context(store=root / "runs", data_dir=root / "data", device="cpu")


def ran(name, context):
    report = sweep(name, preset="tiny", context=context)
    assert report.failures == []
    return report


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_runs_to_its_end_and_is_finished_then(name, context):
    planned = sweep(name, preset="tiny", dry_run=True, context=context)
    first = ran(name, context)
    assert first.trainings.planned == first.trainings.done + first.trainings.reused > 0
    assert first.trainings.done == planned.estimate.trainings
    assert first.evaluations.done == planned.estimate.evaluations
    again = ran(name, context)
    assert again.trainings.done == again.evaluations.done == 0
    assert again.evaluations.planned == again.evaluations.reused
    rest = sweep(name, preset="tiny", dry_run=True, context=context).estimate
    assert (rest.trainings, rest.evaluations, rest.speeds) == (0, 0, ())


@pytest.mark.parametrize(
    "name", [one for one in recipe_names() if "plot" in str(read_source(one).mapping.get("report"))]
)
def test_a_figure_is_drawn_from_its_recipe(name, context, tmp_path):
    from drelu_cli.workflows.plot import plot

    ran(name, context)
    assert Recipe.from_mapping(read_source(name).mapping).report.plot
    report = plot(name, preset="tiny", out=tmp_path / "figure.png", context=context)
    assert {file.suffix for file in report.files} == {".png", ".svg", ".csv"}
    assert all(file.stat().st_size > 0 for file in report.files)
