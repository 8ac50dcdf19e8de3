"""The conda recipe says what pyproject.toml says; it cannot be built here, where there is no conda."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
CALLED = {"torch": "pytorch", "matplotlib": "matplotlib-base"}  # where conda-forge has another name
FOR_US = {"test", "docs", "dev"}  # extras of those who work on the software


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def recipe() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "recipe" / "recipe.yaml").read_text(encoding="utf-8"))
    return found


def as_conda(requirement: str) -> str:
    """Write ``torch>=2.4`` as ``pytorch >=2.4``; conda has no extras in brackets."""
    name, bounds = re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?(.*)", requirement).groups()  # type: ignore[union-attr]
    return f"{CALLED.get(name, name.lower())} {bounds}".strip()


def test_names_version_and_entry_point(project: dict[str, Any], recipe: dict[str, Any]) -> None:
    stated = project["project"]
    assert recipe["package"]["name"] == stated["name"]
    assert recipe["context"]["version"] == stated["version"]
    scripts = [f"{name} = {place}" for name, place in stated["scripts"].items()]
    assert recipe["build"]["python"]["entry_points"] == scripts
    assert recipe["about"]["license"] == stated["license"]
    assert (ROOT / "recipe" / recipe["source"]["path"] / recipe["about"]["license_file"]).is_file()
    assert [one["python"]["imports"] for one in recipe["tests"] if "python" in one] == [
        project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    ]


def test_requirements_have_the_same_bounds(project: dict[str, Any], recipe: dict[str, Any]) -> None:
    stated, needed = project["project"], recipe["requirements"]
    python = f"python {stated['requires-python']}"
    assert needed["run"] == [python, *map(as_conda, stated["dependencies"])]
    assert needed["host"] == [python, "pip", *map(as_conda, project["build-system"]["requires"])]
    extras = [
        each for extra, some in stated["optional-dependencies"].items() if extra not in FOR_US for each in some
    ]
    assert needed["run_constraints"] == list(map(as_conda, extras))


@pytest.mark.parametrize(
    ("stated", "called"),
    [
        ("torch>=2.4", "pytorch >=2.4"),
        ("psycopg[binary]>=3.2", "psycopg >=3.2"),
        ("zarr>=3.1,<4", "zarr >=3.1,<4"),
    ],
)
def test_requirements_are_written_as_conda_writes_them(stated: str, called: str) -> None:
    assert as_conda(stated) == called
