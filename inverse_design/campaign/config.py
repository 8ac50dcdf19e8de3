"""The file of a campaign's settings: TOML, with the keys of :class:`CampaignSettings`."""

import tomllib
from collections.abc import Mapping
from pathlib import Path

from inverse_design.campaign.settings import CampaignSettings, settings_of
from inverse_design.errors import SettingsError

SETTINGS_ENDING = ".toml"


def read_settings(path: Path | None, stated: Mapping[str, object]) -> CampaignSettings:
    """Read the settings of a campaign from a file, from flags, or from both.

    Args:
        path: A ``.toml`` file with the keys of :class:`CampaignSettings`; a ``target`` in it that is a file is
            looked for beside it. ``None`` if there is no file.
        stated: What was stated elsewhere, such as on the command line: it has precedence.

    Returns:
        The settings.

    Raises:
        SettingsError: If the file cannot be read, a key is unknown (the nearest is named), or a value is refused.
    """
    if path is None:
        return settings_of(stated)
    read = {**_read(path), **stated}
    if "target" not in stated:
        read["target"] = _beside(path, read.get("target"))
    try:
        return settings_of({key: value for key, value in read.items() if value is not None})
    except SettingsError as error:
        raise SettingsError(f"{path.name!r}: {error}") from error


def _read(path: Path) -> dict[str, object]:
    if path.suffix != SETTINGS_ENDING:
        raise SettingsError(f"settings {str(path)!r} must be a file that ends with {SETTINGS_ENDING}")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{str(path)!r} cannot be read as TOML: {error}") from error


def _beside(path: Path, target: object) -> object:
    """Make the path of a target's file independent of the folder that the command runs in."""
    if not isinstance(target, str) or not target.strip():
        return target
    file = path.parent / target
    try:
        return str(file) if file.is_file() else target
    except OSError:  # longer than any path: a condition, or a mistake that the target's reader names
        return target
