"""How good is it on a screen: retrieval, forward predictions, calibration, reach, replays."""
