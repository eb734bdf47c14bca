import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drelu_cli.core.errors import BadValue
from drelu_cli.core.quantities import parse_eps_list, parse_fraction, parse_part, part_text


@pytest.mark.parametrize(
    ("text", "value"), [("0.1", 0.1), ("8/255", 8 / 255), ("1e-3", 1e-3), (" 2 ", 2.0)]
)
def test_fractions(text, value):
    assert parse_fraction(text) == value


@pytest.mark.parametrize("text", ["8/0", "x", "", "nan", "inf", "-inf", "1/2/3"])
def test_what_is_no_number_is_refused_and_named(text):
    with pytest.raises(BadValue, match="value"):
        parse_fraction(text)


def test_eps_lists():
    assert parse_eps_list("0.1,8/255") == (0.1, 8 / 255)
    assert parse_eps_list("0") == (0.0,)


@pytest.mark.parametrize("text", ["-1", "0.1,-0.2", "", ","])
def test_radii_are_not_negative_and_not_missing(text):
    with pytest.raises(BadValue, match="eps"):
        parse_eps_list(text)


@given(st.floats(min_value=0, max_value=10, allow_nan=False))
def test_eps_survives_being_typed(eps):
    assert parse_eps_list(repr(eps)) == (eps,)


def test_parts():
    assert parse_part("pgd") == ("pgd", {})
    assert parse_part("pgd:steps=100,restarts=5") == ("pgd", {"steps": "100", "restarts": "5"})
    assert parse_part("mine.parts:Swish") == ("mine.parts:Swish", {})
    assert parse_part("mine.parts:Swish:slope=2") == ("mine.parts:Swish", {"slope": "2"})


@pytest.mark.parametrize("text", ["", ":a=1", ":a", "pgd:steps=1,restarts", "pgd:steps=1,steps=2"])
def test_parts_that_mean_nothing(text):
    with pytest.raises(BadValue):
        parse_part(text)


def test_digest_refuses_nan():
    from drelu_cli.core.digest import digest_of

    with pytest.raises(ValueError):
        digest_of({"a": math.nan})


@pytest.mark.parametrize("text", ["pgd", "pgd:steps=100", "square:ties=true,queries=10"])
def test_a_part_is_written_as_it_is_read(text):
    name, options = parse_part(text)
    assert part_text(name, options) == text


def test_truth_values_are_written_as_toml_writes_them():
    assert part_text("square", {"ties": True}) == "square:ties=true"
