"""Which batch of experiments to do next: recommenders, for campaigns and replays alike."""
