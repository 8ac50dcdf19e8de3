"""Models that know which transcription factors regulate which genes."""
