import json

from strategies.worlds import tiny_screen

from inverse_design.cli.console import Run
from inverse_design.cli.outputs import manifest


def test_the_manifest_says_what_a_result_rests_upon() -> None:
    screen = tiny_screen()
    found = manifest(Run(("propose", "my data.csv", "--target", "A+B")), screen, seed=7, settings={"top": 3})
    assert found["command"] == "inverse-design propose 'my data.csv' --target A+B"
    assert found["data"] == dict(screen.provenance)
    assert (found["seed"], found["settings"]) == (7, {"top": 3})
    assert isinstance(found["packages"], dict)
    assert {"torch", "numpy", "pandas", "anndata"} <= set(found["packages"])
    assert json.loads(json.dumps(found)) == found


def test_without_data_there_is_none_in_the_manifest() -> None:
    found = manifest(Run(("benchmark", "search")), None, seed=1)
    assert found["seed"] == 1
    assert not {"data", "conditions", "readouts", "context"} & found.keys()


def test_only_the_clock_differs_between_equal_runs() -> None:
    one, other = (manifest(Run(("check",)), tiny_screen(), seed=0) for _ in range(2))
    changing = {"started", "ended"}
    assert {key: one[key] for key in one.keys() - changing} == {key: other[key] for key in other.keys() - changing}
