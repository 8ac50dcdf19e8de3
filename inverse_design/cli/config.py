"""Options from a file: ``inverse-design.toml`` of the working directory, or the one that ``--config`` names.

Keys are the names of options. Those of the top hold for every verb that has them, those of a table such as
``[propose]`` or ``[campaign.ask]`` for that verb. What is typed goes before the environment, that before the file.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import get_args

from cyclopts import App, ArgumentCollection, CoercionError
from cyclopts.config import Dict

from inverse_design.errors import masked
from inverse_design.toml_files import read_toml
from surrogates.errors import DataError, UnknownNameError, shown, some_of

FILE = "inverse-design.toml"
# What the file of somebody else must not do: agree, overwrite, or name a machine that runs programs as you.
TYPED = frozenset({"config", "force", "scheduler", "yes"})
Table = Mapping[str, object]


def options_of_file(
    root: App, taken: dict[str, object]
) -> Callable[[App, tuple[str, ...], ArgumentCollection], None]:
    """Make what cyclopts asks for options that were not typed; what a file gave is noted, without passwords."""

    def apply(verb: App, names: tuple[str, ...], arguments: ArgumentCollection) -> None:
        path = _file(arguments)
        if path is None:
            return
        stated = read_toml(path)
        _check(stated, root, (), path.name)
        known = _options(arguments)
        chosen = {key: value for table in _tables(stated, names) for key, value in table.items() if key in known}
        Dict(chosen, source=str(path), use_commands_as_keys=False)(verb, names, arguments)
        given = [each for each in arguments if any(token.source == str(path) for token in each.tokens)]
        used = {key: value for key, value in chosen.items() if any(f"--{key}" in each.names for each in given)}
        said = {key: masked(value) if isinstance(value, str) else value for key, value in used.items()}
        if said:
            taken.update(file=str(path), options=said)

    return apply


def refuse_fractions(_verb: App, _names: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Refuse a number with a fraction where a whole one is asked for: cyclopts would round it."""
    for each in arguments:
        for token in each.tokens if int in (each.hint, *get_args(each.hint)) else ():
            with suppress(ValueError):  # what is no number at all is refused by cyclopts
                if not float(token.value).is_integer():
                    raise CoercionError(argument=each, token=token, target_type=int)


def options_in_words(taken: Mapping[str, object]) -> str:
    """Say which file gave which options."""
    options = taken["options"]
    stated = [f"{key} = {shown(value)}" for key, value in options.items()] if isinstance(options, Mapping) else []
    return f"options of {taken['file']}: {some_of(stated, 12)}"


def _file(arguments: ArgumentCollection) -> Path | None:
    """Find the file: the one that is named, else one in the working directory."""
    named = [token.value for each in arguments if "--config" in each.names for token in each.tokens]
    path = Path(named[-1] if named else FILE)
    if path.is_file():
        return path
    if named:
        raise DataError(f"there is no file {named[-1]!r}; name one with options (keys as in {FILE})")
    return None


def _tables(stated: Table, names: tuple[str, ...]) -> Iterator[Table]:
    """Take the top, then each table on the way to a verb: what is nearer to it goes before."""
    yield stated
    for name in names:
        below = stated.get(name)
        if not isinstance(below, Mapping):
            return
        stated = below
        yield stated


def _check(stated: Table, app: App, before: tuple[str, ...], file: str) -> None:
    """Refuse keys that no verb has, wherever they stand, and values that no option takes."""
    verbs = {name: app[name] for name in app if not name.startswith("-")}
    tables = {key: value for key, value in stated.items() if isinstance(value, Mapping) and key in verbs}
    for name, table in tables.items():
        _check(table, verbs[name], (*before, name), file)
    known = _options_below(app) if len(tables) < len(stated) else set()
    where = f"{file!r}" + (f", [{'.'.join(before)}]," if before else "")
    for key, value in stated.items():
        if key in tables:
            continue
        if key in TYPED:
            raise DataError(f"{where} states {key!r}, which is only taken from the command line: remove it")
        if key not in known:
            kind, names = ("verb", set(verbs)) if isinstance(value, Mapping) else ("key", known - TYPED)
            raise UnknownNameError.from_known(f"{kind} of {where}", key, names)
        parts = value if isinstance(value, list) else [value]
        if not all(isinstance(each, str | int | float) for each in parts):
            raise DataError(
                f"{where} states {key!r} as {shown(value)}; give a text, a number, true, false or a list of them"
            )


def _options_below(app: App) -> set[str]:
    if app.default_command is not None:
        return _options(app.assemble_argument_collection())
    return {each for name in app if not name.startswith("-") for each in _options_below(app[name])}


def _options(arguments: ArgumentCollection) -> set[str]:
    """List the options of a verb, as they are typed without the dashes."""
    return {
        each.names[0].removeprefix("--")
        for each in arguments
        if each.parameter.parse is not False and each.names[0].startswith("--")
    }
