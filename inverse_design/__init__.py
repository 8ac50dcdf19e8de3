"""Which perturbation should we do next?"""

import gc

import lazy_loader

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    """Import a public name when it is asked for.

    Cycles are not looked for meanwhile: torch makes so many objects that this takes a fifth of the time.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        return _load(name)
    finally:
        if collects:
            gc.enable()
