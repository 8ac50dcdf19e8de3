"""The pages, by subject; each module has the router of its own."""
