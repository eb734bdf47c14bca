"""Tables 1 to 9 of the source paper as frames."""

from __future__ import annotations

import difflib
import tomllib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from drelu_cli.core.errors import UnknownName
from drelu_cli.published import PREFIX

if TYPE_CHECKING:
    import pandas as pd

_PACKAGE = files("drelu_cli.published")


@cache
def provenance() -> dict[str, Any]:
    """Where the tables come from, what each is about, and the threats of their attacks."""
    return tomllib.loads(_PACKAGE.joinpath("provenance.toml").read_text(encoding="utf-8"))


def table_names() -> list[str]:
    """`published:table1` .. `published:table9`."""
    return [f"{PREFIX}table{number}" for number in provenance()["tables"]]


def table_numbers(name: str) -> list[int]:
    """The tables that `name` stands for: one, or all nine for `published:all`.

    Raises:
        UnknownName: not a published table.
    """
    numbers = [int(number) for number in provenance()["tables"]]
    if name == f"{PREFIX}all":
        return numbers
    if name not in table_names():
        near = difflib.get_close_matches(name, table_names(), n=1)
        raise UnknownName(
            f"unknown published table '{name}'",
            hint=(f"did you mean {near[0]}? " if near else "")
            + f"known: {table_names()[0]} .. {table_names()[-1]}, {PREFIX}all",
        )
    return [int(name.removeprefix(f"{PREFIX}table"))]


def published_table(name: str) -> pd.DataFrame:
    """The cells of `published:tableN` or `published:all`, in the order printed.

    Returns:
        columns table, dataset, model, training, attack (clean, fgsm, pgd, apgd_ce, apgd_dlr,
        cw_l2, square), accuracy (percent), printed_rank, param (NaN where none is printed), norm,
        eps (pixel units; NaN for clean), data (`original` or `generated` training images).
        A new frame on every call.

    Raises:
        UnknownName: not a published table.
    """
    frame = _all_cells()
    chosen = frame[frame["table"].isin(table_numbers(name))]
    return chosen.reset_index(drop=True)


@cache
def _all_cells() -> pd.DataFrame:
    import pandas as pd

    with _PACKAGE.joinpath("paper_tables.csv").open(encoding="utf-8") as stream:
        frame = pd.read_csv(stream)
    facts = provenance()
    frame["norm"] = frame["attack"].map(lambda name: "l2" if name == "cw_l2" else "linf")
    frame["eps"] = frame["dataset"].map(facts["linf_eps"]).astype(float)
    frame.loc[frame["attack"] == "cw_l2", "eps"] = facts["cw_l2_bound"]
    frame.loc[frame["attack"] == "clean", ["norm", "eps"]] = [None, float("nan")]
    frame["data"] = frame["table"].map(lambda number: facts["tables"][str(number)]["data"])
    return frame


def claims_text() -> str:
    """The TOML text of the figures printed in section 6.2."""
    return _PACKAGE.joinpath("claims.toml").read_text(encoding="utf-8")
