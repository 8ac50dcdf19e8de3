"""Replays in which a state is to be reached."""
