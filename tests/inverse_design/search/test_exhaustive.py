import math
from dataclasses import replace

import pytest
import torch
from strategies.questions import question_model, question_objective, question_space

from inverse_design.problem.constraints import Constraints, Group
from inverse_design.search import exhaustive
from inverse_design.search.api import Engine, search_notes
from inverse_design.search.exhaustive import in_ranges, listable, search
from inverse_design.search.topk import TopK, search_stream
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.models.wrappers.calibrated import FittedCalibrated

RULES = Constraints(groups=(Group("family", ("G00", "G01", "G02")),), incompatible=(("G03", "G04"),))


def model(*, coefficient_variance: float) -> FittedCalibrated:
    fitted = question_model()
    laws = {
        code: replace(law, coefficient_variance=coefficient_variance, degrees=math.inf)
        for code, law in fitted.laws.items()
    }
    return replace(fitted, laws=laws)


def streamed(fitted: FittedCalibrated, *orders: int, k: int = 9) -> TopK:
    def worth(batch: PerturbationBatch) -> torch.Tensor:
        return question_objective().utility(fitted, batch).mean

    return search_stream(question_space(*orders, constraints=RULES), worth, k).top


@pytest.mark.parametrize("orders", [(3,), (4,), (1, 2, 3)])
@pytest.mark.parametrize("coefficient_variance", [0.0, 0.1])
def test_every_route_to_larger_sets_has_the_same_answer(
    orders: tuple[int, ...], coefficient_variance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted, space = model(coefficient_variance=coefficient_variance), question_space(*orders, constraints=RULES)
    wanted = streamed(fitted, *orders)
    found = search(question_objective(), fitted, space, 9)
    assert found.certificate.exact
    assert found.certificate.ruled_out == space.ruled_out
    assert found.top.index.tolist() == wanted.index.tolist()
    torch.testing.assert_close(found.top.score, wanted.score)
    assert in_ranges(question_objective(), fitted, space)
    monkeypatch.setattr(exhaustive, "LISTABLE", 10)
    again = search(question_objective(), fitted, space, 9)
    assert again.certificate.exact == (coefficient_variance == 0)
    assert again.certificate.bound == ("largest pair" if coefficient_variance == 0 else "none")
    assert again.top.index.tolist() == wanted.index.tolist()  # the beam is wider than this small space
    assert not listable(space, orders[-1])
    assert in_ranges(question_objective(), fitted, space) == (coefficient_variance == 0)


def test_what_the_notes_say(monkeypatch: pytest.MonkeyPatch) -> None:
    space = question_space(3)

    def notes(fitted: FittedCalibrated, engine: Engine) -> str:
        found = engine.search(question_objective(), fitted, space, 3)
        return "\n".join(search_notes(engine, found.certificate, fitted, space))

    proven = notes(model(coefficient_variance=0.0), Engine())
    assert "searched by a bound on their largest pair: proven" in proven
    assert "the error law of 'triple, 3 of 3 seen' is borrowed from 'double, 2 of 2 seen'" in proven
    assert "warning" not in proven
    listed = notes(model(coefficient_variance=0.1), Engine())
    assert "bound" not in listed
    monkeypatch.setattr(exhaustive, "LISTABLE", 10)
    assert notes(model(coefficient_variance=0.1), Engine()).startswith("warning: no bound is known")
    assert "in this process alone" in notes(model(coefficient_variance=0.1), Engine(workers=2))
    assert (
        search_notes(
            Engine(),
            search(question_objective(), question_model(), question_space(2), 3).certificate,
            question_model(),
            question_space(2),
        )
        == ()
    )
