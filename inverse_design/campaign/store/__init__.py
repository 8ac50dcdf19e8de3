"""Where a campaign is kept: an append-only log in SQLite or PostgreSQL."""
