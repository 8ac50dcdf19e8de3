from collections.abc import Iterator
from contextlib import suppress

import pytest
import torch
from strategies.screens import planted_screen
from threadpoolctl import threadpool_info

from surrogates import threads
from surrogates.threads import given_threads, limited_threads, threads_for


def of_blas() -> set[int]:
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}


@pytest.fixture
def three() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three")
def test_threads_are_limited_and_given_back_whatever_happens() -> None:
    blas = of_blas()
    assert given_threads() == 3
    with limited_threads():
        assert (torch.get_num_threads(), of_blas(), given_threads()) == (1, {1}, 3)
        with suppress(KeyError), limited_threads(2):
            assert (torch.get_num_threads(), of_blas(), given_threads()) == (2, {1}, 3)
            raise KeyError
        assert (torch.get_num_threads(), of_blas(), given_threads()) == (1, {1}, 3)
    assert (torch.get_num_threads(), of_blas(), given_threads()) == (3, blas, 3)


@pytest.mark.usefixtures("three")
def test_only_a_large_screen_has_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    data = planted_screen(alone=range(4), together=[(0, 1)])
    assert threads_for(data) == 1
    monkeypatch.setattr(threads, "_LARGE", data.effects.numel())
    assert threads_for(data) == 3
    with limited_threads(threads_for(data)):
        assert threads_for(data) == 3  # what stands in the key of a fit, inside and outside
