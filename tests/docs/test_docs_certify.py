"""The example of docs/certify.md prints what the page shows."""

from __future__ import annotations

import docs_pages


def test_the_example_prints_what_the_page_shows(capsys):
    blocks = docs_pages.blocks(docs_pages.DOCS / "certify.md")
    start = [block.language for block in blocks].index("python")
    code, shown = blocks[start : start + 2]
    assert (code.language, shown.language) == ("python", "text")
    exec(compile(code.text, "certify.md", "exec"), {"__name__": "certify"})
    assert capsys.readouterr().out == shown.text
