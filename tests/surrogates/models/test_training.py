import pytest
import torch
from strategies.screens import normal

from surrogates.errors import DataError
from surrogates.models.training import Layers, Schedule, train


def _line(seed: int, *, epochs: int = 300, patience: int = 300) -> tuple[Layers, float]:
    inputs = normal(64, 3, seed=0).float()
    wanted = inputs @ torch.tensor([[1.0], [-2.0], [0.5]])
    layers = Layers.random([3, 1], generator=torch.Generator().manual_seed(seed))
    training = train(
        layers.parameters,
        lambda part: (layers(inputs[part]) - wanted[part]).square().mean(),
        rows=48,
        schedule=Schedule(epochs=epochs, batch=16, rate=0.05, decay=0.0, patience=patience),
        seed=seed,
        held_out=lambda: (layers(inputs[48:]) - wanted[48:]).square().mean(),
    )
    return layers, training.held_out


def test_training_finds_a_line_and_returns_its_best_epoch() -> None:
    layers, held_out = _line(0)
    torch.testing.assert_close(layers.weights[0], torch.tensor([[1.0, -2.0, 0.5]]), atol=1e-3, rtol=0)
    assert held_out < 1e-6
    assert not any(each.requires_grad for each in layers.parameters)


def test_a_seed_fixes_training_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, other = _line(3, epochs=3)[0], _line(3, epochs=3)[0]
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters, other.parameters, strict=True))


def test_the_parameters_of_the_best_epoch_are_kept() -> None:
    value = torch.zeros(1)
    losses = iter([3.0, 1.0, 2.0, 2.0, 2.0])
    seen: list[float] = []

    def held_out() -> torch.Tensor:
        seen.append(float(value))
        return torch.tensor(next(losses))

    training = train(
        [value],
        lambda _: (value - 10).square().sum(),
        rows=1,
        schedule=Schedule(epochs=50, batch=1, rate=0.1, patience=3),
        seed=0,
        held_out=held_out,
    )
    assert (training.epochs, training.held_out, len(seen)) == (2, 1.0, 5)
    assert float(value) == seen[1]


def test_a_loss_that_is_not_finite_is_refused() -> None:
    value = torch.ones(1)
    with pytest.raises(DataError, match="training loss became nan"):
        train([value], lambda _: (value * torch.nan).sum(), rows=1, schedule=Schedule(), seed=0)
    with pytest.raises(DataError, match="held-out loss was never finite"):
        train(
            [value],
            lambda _: value.sum(),
            rows=1,
            schedule=Schedule(epochs=2),
            seed=0,
            held_out=lambda: torch.tensor(torch.nan),
        )


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"batch": 0}, {"rate": 0.0}, {"patience": 0}])
def test_schedules_that_train_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(DataError, match="trains nothing"):
        Schedule(**wrong)  # type: ignore[arg-type]


def test_layers_are_linear_without_hidden_units() -> None:
    layers = Layers.random([4, 2], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    one, other = normal(5, 4, seed=1), normal(5, 4, seed=2)
    torch.testing.assert_close(layers(one) + layers(other), layers(one + other))
    assert layers.to(device="cpu", dtype=torch.float32).weights[0].dtype == torch.float32
