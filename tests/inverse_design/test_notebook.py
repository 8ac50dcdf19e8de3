"""What a notebook shows of values, with names that would be markup."""

import re
from pathlib import Path

import anndata
import pandas as pd
from strategies.screens import label, pairs_of, planted_screen

from inverse_design import Campaign, Screen, fit, plan, propose, rank

TOGETHER = pairs_of(6, 12)
NEW = next(each for each in pairs_of(6, 15) if each not in TOGETHER)
TAGS = re.compile(r"<(?!/?(?:div|table|thead|tbody|tr|th|td|style)\b)")


def hostile(label: str) -> str:
    return "+".join(f"</td><script>{part}" for part in label.split("+"))


def test_names_are_shown_and_are_no_markup(tmp_path: Path) -> None:
    frame = planted_screen(alone=range(6), together=TOGETHER, readouts=5, bend=0.3).to_frame()
    frame.index = pd.Index(map(hostile, frame.index))
    screen = Screen.from_frame(frame.rename(columns={"r0": '<img src="x" onerror="alert(1)">'}))
    wanted = dict.fromkeys(screen.readouts, 1.0)
    campaign = Campaign.create(screen, target=wanted, surrogate="additive", batch_size=2)
    fitted, asked = fit(screen, surrogate="additive"), [hostile(label(NEW))]
    answer = propose(screen, wanted, surrogate="additive")
    values = [screen, fitted, fitted.predict(asked), plan(screen, wanted, surrogate="additive"), campaign]
    values += [answer, rank(screen, wanted, asked, surrogate="additive")]
    values += [campaign.ask(), campaign]
    for value in values:
        page = value._repr_html_()
        assert not TAGS.search(page), (type(value), TAGS.findall(page))
        assert "&lt;" in page or type(value).__name__ in {"Plan", "Campaign"}
    answer.to_anndata().write_h5ad(tmp_path / "answer.h5ad")
    found = anndata.read_h5ad(tmp_path / "answer.h5ad")
    assert (list(found.obs_names), list(found.var_names)) == (
        list(answer.table["perturbation"]),
        list(screen.readouts),
    )
