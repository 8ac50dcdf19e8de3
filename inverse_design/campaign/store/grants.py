"""Roles of a store in PostgreSQL, as statements that its owner runs.

The owner is who made the tables: campaigns are created, and tables migrated, by that role alone. A teller appends:
events, arrays, and the counter of a campaign, which a trigger lets go forward only. A reader reads.
"""

from collections.abc import Sequence

from sqlalchemy.dialects import postgresql

from inverse_design.errors import SettingsError

_TABLES = ("alembic_version", "campaigns", "artefacts", "events")


def grants(*, schema: str, readers: Sequence[str], tellers: Sequence[str]) -> str:
    """Write the statements that give roles what they need, and take everything else."""
    roles = [*readers, *tellers]
    if not roles:
        raise SettingsError("no role is named; name one with --reader or --teller")
    if twice := next((role for role in roles if roles.count(role) > 1), None):
        raise SettingsError(f"the role {twice!r} is named twice; a teller may read, too")
    if odd := next((role for role in (*roles, schema) if not role or not role.isprintable()), None):
        raise SettingsError(f"{odd!r:.80} cannot be the name of a role or schema")
    quote = postgresql.dialect().identifier_preparer.quote_identifier  # type: ignore[no-untyped-call]
    place = quote(schema)
    tables = {name: f"{place}.{name}" for name in _TABLES}
    every = ", ".join(tables.values())
    lines = [f"REVOKE ALL ON {every} FROM PUBLIC;"]
    for role in map(quote, roles):
        lines += [
            f"REVOKE ALL ON {every} FROM {role};",
            f"GRANT USAGE ON SCHEMA {place} TO {role};",
            f"GRANT SELECT ON {every} TO {role};",
        ]
    for role in map(quote, tellers):
        lines += [
            f"GRANT INSERT ON {tables['artefacts']}, {tables['events']} TO {role};",
            f"GRANT UPDATE (head, hash) ON {tables['campaigns']} TO {role};",
        ]
    return "\n".join(lines) + "\n"
