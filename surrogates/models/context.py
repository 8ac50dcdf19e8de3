"""The one context that a forward model learns from."""

from surrogates.data.screen import Screen
from surrogates.errors import DataError


def require_one_context(screen: Screen) -> None:
    """Refuse a screen of several contexts, and one without conditions, which has none.

    Args:
        screen: What a model is about to be fitted to.

    Raises:
        DataError: If the screen has more than one context, or no conditions.
    """
    if not len(screen):
        raise DataError("the screen has no conditions; give one that has")
    contexts = sorted(set(screen.contexts))
    if len(contexts) > 1:
        raise DataError(
            f"the screen has {len(contexts)} contexts, {contexts[0]!r} and {contexts[1]!r} among them; take"
            f" one with screen.in_context({contexts[0]!r})"
        )
