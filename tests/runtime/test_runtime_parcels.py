"""What is carried to another machine: told apart by its bytes."""

from drelu_cli.runtime.parcels import Manifest, data_here, keep_data


def test_files_of_the_same_name_and_size_are_told_apart_by_their_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "node"))
    found = []
    for text in ("0001", "0002", "0001"):
        folder = tmp_path / f"{len(found)}"
        folder.mkdir()
        (folder / "images").write_text(text)
        manifest = Manifest.of(folder, ["images"])
        keep_data(manifest, manifest.packed())
        assert (data_here(manifest) / "images").read_text() == text
        found.append(data_here(manifest))
    assert found[0] == found[2] != found[1]
