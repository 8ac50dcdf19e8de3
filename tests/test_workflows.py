"""Workflows type what the command line takes, and are planned by their programs where these are installed."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from inverse_design.cli.app import app

WORKFLOWS = Path(__file__).parents[1] / "examples" / "workflows"
PLANS = {
    "Snakefile": ["snakemake", "--dry-run", "--cores", "1", "--snakefile"],
    "main.nf": ["nextflow", "run", "-preview"],
}


def commands(name: str) -> list[list[str]]:
    """Find the commands of a workflow, with a word for each thing that it fills in."""
    text = (WORKFLOWS / name).read_text(encoding="utf-8")
    text = re.sub(r'"\n\s*"|\\\\\n', "", text)  # one line goes on in the next
    found = re.findall(r"inverse-design ([a-z][^\n\"]*)", text)
    return [shlex.split(re.sub(r"\$?\{[^}]*\}", "x", line).partition(" > ")[0]) for line in found]


@pytest.mark.parametrize("name", PLANS)
def test_each_command_is_one_of_the_command_line(name: str) -> None:
    found = commands(name)
    assert [words[0] for words in found] == ["check", "propose"]
    for words in found:
        verb, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
        assert verb.__name__ == words[0]
        assert bound.arguments["data"] == "x"
    assert bound.arguments["report"].endswith((".html", "x"))
    assert bound.arguments["asking"].top == 20


@pytest.mark.parametrize("name", PLANS)
def test_its_program_plans_it(name: str, tmp_path: Path) -> None:
    program, *words = PLANS[name]
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    line = [found, *words, str(WORKFLOWS / name)]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
