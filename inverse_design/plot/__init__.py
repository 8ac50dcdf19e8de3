"""Figures on matplotlib: functions draw into the axes that they are given, and return them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
