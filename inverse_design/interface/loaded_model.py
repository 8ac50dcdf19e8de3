"""The forward model that a command line names."""

from inverse_design.interface.options import AUTOMATIC
from surrogates.errors import UnknownNameError
from surrogates.models.base import Surrogate
from surrogates.models.registered import SURROGATES


def loaded_model(name: str) -> Surrogate | None:
    """Load a forward model by its name.

    Args:
        name: As typed.

    Returns:
        The surrogate, ``None`` if it is to be chosen from several.

    Raises:
        UnknownNameError: If there is none of that name; the message names the nearest ones.
    """
    if name == AUTOMATIC:
        return None
    if name not in SURROGATES.names():
        raise UnknownNameError.from_known("model", name, (AUTOMATIC, *SURROGATES.names()))
    surrogate: Surrogate = SURROGATES.load(name)()
    return surrogate
