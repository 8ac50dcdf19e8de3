"""The local page: requests that nobody would make, and many people at once."""
