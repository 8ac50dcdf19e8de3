import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies.screens import normal

from surrogates.evaluation.metrics import moments, pearson_across, r_squared_across


@given(st.integers(0, 99), st.integers(3, 20), st.integers(1, 4))
def test_drawn_rows_give_what_numpy_gives(seed: int, n: int, g: int) -> None:
    truth = normal(n, g, seed=seed)
    prediction = 0.5 * truth + normal(n, g, seed=seed + 1) + 3
    rows = torch.cat(
        [torch.arange(n)[None], torch.randint(n, (3, n), generator=torch.Generator().manual_seed(seed))]
    )
    found = moments(prediction, truth)
    correlations, shares = pearson_across(found)(rows), r_squared_across(found)(rows)
    for draw, correlation, share in zip(rows, correlations, shares, strict=True):
        if len(draw.unique()) < 3:
            continue
        x, y = prediction[draw].numpy(), truth[draw].numpy()
        expected = np.mean([np.corrcoef(x[:, each], y[:, each])[0, 1] for each in range(g)])
        np.testing.assert_allclose(correlation, expected, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(
            share, (1 - ((y - x) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0)).mean(), rtol=1e-6
        )


def test_constant_predictions_have_no_correlation_but_a_share() -> None:
    truth = normal(8, 2, seed=0)
    found = moments(torch.full_like(truth, 0.1), truth)
    every = torch.arange(8)[None]
    assert pearson_across(found)(every).isnan().all()
    assert float(r_squared_across(found)(every)) < 0
    mixed = moments(torch.stack([truth[:, 0], torch.ones(8, dtype=torch.float64)], 1), truth)
    torch.testing.assert_close(pearson_across(mixed)(every), torch.ones(1, dtype=torch.float64))


def test_a_constant_readout_is_left_out() -> None:
    truth = torch.zeros(5, 1, dtype=torch.float64)
    assert r_squared_across(moments(truth + 1, truth))(torch.arange(5)[None]).isnan().all()
