"""Rounds of experiments: propose, measure, learn, and stop when another round is not worth it."""
