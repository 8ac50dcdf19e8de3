"""Steps of the schema of a campaign store."""
