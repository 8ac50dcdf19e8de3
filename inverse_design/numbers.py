"""Numbers as people read them: aligned in a column, no probability of zero, intervals beside their value."""

import math
from collections.abc import Sequence


def in_column(values: Sequence[float]) -> tuple[str, ...]:
    """Write the numbers of one column with as many decimals as its largest needs for four digits."""
    decimals = decimals_for(values)
    return tuple(fixed(value, decimals) for value in values)


def decimals_for(values: Sequence[float]) -> int:
    """Find how many decimals show four digits of the largest of some numbers, at least one decimal."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    return 1 if largest == 0 else max(1, 3 - math.floor(math.log10(largest)))


def fixed(value: float, decimals: int) -> str:
    """Write one number."""
    if math.isnan(value):
        return "-"
    if decimals > 6:
        return f"{value:.3g}"
    text = f"{value:,.{decimals}f}"
    return text.removeprefix("-") if not text.strip("-0.,") else text


def probability(value: float) -> str:
    """Write a probability; tiny ones are not zero and large ones are not one."""
    if math.isnan(value):
        return "-"
    if value < 0.0005:
        return "<0.001"
    return ">0.999" if value > 0.9995 else f"{value:.3f}"


def measured(value: float, low: float, high: float, unit: str) -> str:
    """Write a measured number with its interval."""
    if math.isnan(value):
        return "-"
    if unit == "rank":
        return f"{value:g} [{round(low, 1):g}, {round(high, 1):g}]"
    if abs(value) >= 100:
        return f"{value:,.0f} [{low:,.0f}, {high:,.0f}]"
    if unit == "s":
        return f"{value:.3f} [{low:.3f}, {high:.3f}]"
    return f"{value:.3f} [{low:.2f}, {high:.2f}]"
