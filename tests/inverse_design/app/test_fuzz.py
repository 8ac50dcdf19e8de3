"""Requests made from the schema, right and wrong ones; `python -m benchmarks page --cases 5000` sends more."""

import pytest

from benchmarks.page.fuzz import Fuzz
from inverse_design.app.site import Site


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_no_request_ends_in_a_fault(site: Site) -> None:
    done = Fuzz(site, "token of ann", cases=180).run()
    assert not done.faults, "\n".join(done.faults)
    assert sum(done.answers.values()) >= 150
    assert {200, 303, 404, 422} <= {code for _, _, code in done.answers}
