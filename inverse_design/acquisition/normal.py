"""The standard normal law, as the gains need it: also where its tail is smaller than any float."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

# Below this, one minus the scaled tail has lost more digits than its expansion in 1 / z².
_FAR = -1e3
_LOG_ROOT_TWO_PI = math.log(2 * math.pi) / 2
_LOG_ROOT_HALF_PI = math.log(math.pi / 2) / 2


def hinge(z: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """Take ``E[max(z + e, 0)]`` of a standard normal ``e``: ``phi(z) + z Phi(z)``.

    Args:
        z: Any numbers.

    Returns:
        The expectations; for z below about -38 they round to zero.
    """
    return log_hinge(z).exp()


def log_hinge(z: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """Take the logarithm of :func:`hinge`, accurate for every z.

    Directly above -1; below by the scaled complementary error function, ``phi(z) (1 - |z| erfcx(-z / √2) √(π/2))``
    [Ament et al. 2023, equation 9]; far below by ``phi(z) / z² (1 - 3 / z² + 15 / z⁴)``.

    Args:
        z: Any numbers; minus infinity gives minus infinity.

    Returns:
        The logarithms.
    """
    near = z.clamp(min=-1.0)
    direct = (_density(near) + near * torch.special.ndtr(near)).log()
    middle = z.clamp(min=_FAR, max=-1.0)
    scaled = torch.special.erfcx(-middle / math.sqrt(2)) * middle.abs()
    tail = _log_density(middle) + _log_one_less(scaled.log() + _LOG_ROOT_HALF_PI)
    far = z.clamp(max=_FAR)
    inverse = far.square().reciprocal()
    beyond = _log_density(far) - 2 * far.abs().log() + (inverse * (15 * inverse - 3)).log1p()
    return torch.where(z > -1, direct, torch.where(z > _FAR, tail, beyond))


def _density(z: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    return _log_density(z).exp()


def _log_density(z: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    return -z.square() / 2 - _LOG_ROOT_TWO_PI


def _log_one_less(logarithm: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """``log(1 - exp(x))`` for negative x [Mächler 2012]."""
    small = (-torch.expm1(logarithm)).log()
    return torch.where(logarithm > -math.log(2), small, (-logarithm.exp()).log1p())
