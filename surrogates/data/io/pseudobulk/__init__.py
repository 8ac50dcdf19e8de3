"""Effects and their standard errors from single cells, however many there are."""
