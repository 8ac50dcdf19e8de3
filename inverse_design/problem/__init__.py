"""The question: a space of candidates, a target and an objective."""
