"""The pages that are run when the documentation is built run, also where the public screens are missing."""

import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ("norman", "growth", "campaign")  # what else is run, the documentation runs, or the test of the README


@pytest.fixture(scope="module")
def runs() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "executed.py"))


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_the_blocks_of_a_page_run_without_public_data(name: str, runs: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "tutorials" / f"{name}.md").read_text(encoding="utf-8")
    shown = runs["executed"](page, public=False)
    assert ("Built without the public data" in shown) == ("open_dataset" in page)
    assert shown.count("<table") > 2
    assert ("<svg" in shown) == ("inverse_design.plot" in page)


def test_a_page_shows_what_its_blocks_print_and_give(runs: dict[str, Any]) -> None:
    page = "# Page\n```python\nn = 2\nprint(n)\n```\nText\n```python\nn + 1\n```\n```python\nn = 5\n```\n"
    assert runs["executed"](page) == (
        "# Page\n```python\nn = 2\nprint(n)\n```\n\n```text\n2\n```\n\nText\n"
        "```python\nn + 1\n```\n\n```text\n3\n```\n\n```python\nn = 5\n```\n"
    )


@pytest.mark.parametrize(("block", "said"), [("python\n1 / 0", "division"), ("sh\nls", "'ls' failed")])
def test_a_block_that_fails_ends_the_build(block: str, said: str, runs: dict[str, Any]) -> None:
    with pytest.raises((ZeroDivisionError, RuntimeError), match=said):
        runs["executed"](f"# Page\n```{block}\n```\n")
