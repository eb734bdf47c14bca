import importlib.metadata
from typing import Annotated

import pytest

from drelu_cli.core import registry as registry_module
from drelu_cli.core.errors import BadValue, DreluError, UnknownName
from drelu_cli.core.registry import Registry, Since


def plain(x, /, *, steps: int = 10, rate: float = 0.5, schema: str = "s", copy: bool = False):
    return (x, steps, rate, schema, copy)


def needs(x, /, *, eps: float):
    return (x, eps)


def grown(x, /, *, steps: int = 10, late: Annotated[int, Since(2)] = 1):
    return (x, steps, late)


HERE = __name__


@pytest.fixture
def parts():
    return Registry(
        "part",
        {"plain": f"{HERE}:plain", "needs": f"{HERE}:needs", "grown": f"{HERE}:grown"},
        group="drelu.test_parts",
        open_names=True,
    )


def test_bind_fills_and_remembers(parts):
    bound = parts.bind("plain", steps=3)
    assert dict(bound.given) == {"steps": 3}
    assert dict(bound.effective) == {"steps": 3, "rate": 0.5, "schema": "s", "copy": False}
    assert bound("machine") == ("machine", 3, 0.5, "s", False)


def test_text_from_the_command_line_is_converted(parts):
    bound = parts.bind("plain", steps="7", rate="0.25", copy="true")
    assert bound("m") == ("m", 7, 0.25, "s", True)
    assert parts.bind("plain", steps="7").identity == parts.bind("plain", steps=7).identity


def test_an_unknown_option_is_named_with_the_nearest(parts):
    with pytest.raises(UnknownName, match="stepps") as caught:
        parts.bind("plain", stepps=1)
    assert "did you mean steps" in caught.value.hint


def test_wrong_types_missing_options_and_nan_are_refused(parts):
    with pytest.raises(BadValue, match="steps"):
        parts.bind("plain", steps="many")
    with pytest.raises(BadValue, match="eps"):
        parts.bind("needs")
    with pytest.raises(BadValue, match="rate"):
        parts.bind("plain", rate=float("nan"))


def test_an_unknown_name_lists_the_known(parts):
    with pytest.raises(UnknownName, match="plane") as caught:
        parts.bind("plane")
    assert "plain" in caught.value.hint


def test_a_late_option_at_its_default_stays_out_of_the_identity(parts):
    assert parts.bind("grown").identity == {"name": "grown", "options": {"steps": 10}}
    assert parts.bind("grown", late=2).identity["options"] == {"steps": 10, "late": 2}
    assert parts.bind("grown").effective["late"] == 1


def test_options_of(parts):
    assert parts.options_of("plain")["steps"] == 10
    assert parts.options_of("needs") == {"eps": ...}


def test_open_names(parts):
    assert parts.bind(f"{HERE}:plain", steps=1)("m")[1] == 1
    with pytest.raises(DreluError, match="no_such_module"):
        parts.resolve("no_such_module:thing")
    with pytest.raises(UnknownName, match="plan"):
        parts.resolve(f"{HERE}:plan")


@pytest.fixture(autouse=True)
def _fresh_entry_points():
    registry_module._entry_points.cache_clear()
    yield
    registry_module._entry_points.cache_clear()


def test_a_third_party_part_needs_only_its_entry_point(parts, monkeypatch):
    found = [importlib.metadata.EntryPoint("theirs", f"{HERE}:needs", "drelu.test_parts")]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: found)
    assert "theirs" in parts.names()
    assert parts.bind("theirs", eps=1)("m") == ("m", 1.0)


def test_a_plug_in_that_fails_to_load_is_named(parts, monkeypatch):
    found = [importlib.metadata.EntryPoint("broken", "no_such_plugin:f", "drelu.test_parts")]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: found)
    with pytest.raises(DreluError, match=r"plug-in 'broken' \(no_such_plugin:f\)"):
        parts.resolve("broken")


def test_duplicate_names_are_errors(parts, monkeypatch):
    found = [importlib.metadata.EntryPoint("plain", "x:y", "drelu.test_parts")]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: found)
    with pytest.raises(DreluError, match="two parts are called 'plain'"):
        parts.names()
