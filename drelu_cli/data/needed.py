"""Which files a data set is read from: what must travel to a machine that lacks them."""

from __future__ import annotations

from pathlib import Path

from drelu_cli.data.releases import RELEASES, Official


def needed_files(name: str, data_dir: Path, *, generated: str | None = None) -> list[str]:
    """Names below `data_dir` of the files of a data set; none for one that lies elsewhere.

    Args:
        name: a registered data set.
        data_dir: the data folder.
        generated: of `[data]`: generated images, where they lie in the data folder.
    """
    found = []
    for release in RELEASES:
        if release.name == name and isinstance(release, Official):
            found += [f"{release.folder}/{file}" for file in release.files]
        elif release.name == name:
            tree = data_dir / release.folder
            found += [str(file.relative_to(data_dir)) for file in tree.rglob("*") if file.is_file()]
    if generated is not None and not Path(generated).is_absolute():
        found.append(generated)
    return [file for file in found if (data_dir / file).is_file()]
