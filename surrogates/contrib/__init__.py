"""Forward models of the field beside the core: each with the evidence for and against it."""
