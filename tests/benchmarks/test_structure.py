"""The counts of structure, on packages small enough to count by hand."""

from pathlib import Path

import pytest

from benchmarks.structure import Wheel, counts, unused_exports

FILES = {
    "inverse_design/cli/app.py": """
        from inverse_design.work import Used

        @app.command
        def check():
            from surrogates.models import fit
            return fit(Used)

        def propose():
            return TABLE

        def rank():
            return 1

        TABLE = {"one": "surrogates.named:Named"}
        def idle():
            return 1
        """,
    "inverse_design/cli/campaign/app.py": "def ask():\n    return 1\n",
    "inverse_design/work.py": """
        class Used:
            def method(self):
                return helper()

        def helper():
            return 1

        def idle():
            return 2

        class Same:
            pass
        """,
    "inverse_design/lists.py": "FEW = ('.h5ad', '.csv')\nENDINGS = ('.h5ad', '.csv', '.tsv')\n",
    "inverse_design/listed.py": "from r import Registry\nREADERS = Registry('.h5ad', '.csv', '.tsv')\n",
    "inverse_design/few.py": "SOME = ('.csv', '.h5ad')\n",
    "surrogates/models.py": "def fit(what):\n    return what\n\n\nclass Same:\n    pass\n",
    "surrogates/named.py": "class Named:\n    pass\n",
    "surrogates/__init__.pyi": "from .models import fit as fit\n",
    "inverse_design/__init__.pyi": "from .work import Used as Used\nfrom .work import helper as helper\n",
    "tests/test_it.py": "from inverse_design import Used\nimport surrogates\nsurrogates.fit(1)\n",
    "examples/none.py": "from inverse_design.work import helper\n",
}  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = text.strip("\n").splitlines()
        path.write_text("\n".join(line.removeprefix(" " * 8) for line in lines).rstrip() + "\n")
    return tmp_path


def test_what_verbs_name_is_reached_through_imports_methods_and_registries(root: Path) -> None:
    # check 4, propose 2, rank 2, TABLE 1, ask 2, Used 3, helper 2, fit 2, Named 2; neither idle nor Same.
    assert Wheel.read(root).reached() == 20


def test_names_that_two_modules_define_are_found(root: Path) -> None:
    found = {what: (value, behind) for what, value, behind in counts(root)}
    assert found["functions alike in name"] == (1, "idle: inverse_design.cli.app, inverse_design.work")
    assert found["classes that share a name"] == (1, "Same: inverse_design.work, surrogates.models")
    assert found["files in the wheel"][0] == 8
    assert found["files of the fullest folder"] == (4, "inverse_design")


def test_a_module_that_lists_most_built_ins_is_a_place_to_touch_and_a_registry_is_none(root: Path) -> None:
    assert Wheel.read(root).places("reader") == ["inverse_design.lists"]
    assert Wheel.read(root).places("output format") == []


def test_exports_are_used_as_a_user_would(root: Path) -> None:
    assert unused_exports(root) == (["inverse_design.helper"], 3)
