"""What alembic runs: the steps, on a connection whose transaction belongs to the caller."""

from alembic import context
from sqlalchemy import Connection

from inverse_design.campaign.store.schema import METADATA

connection: Connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=METADATA)
context.run_migrations()
