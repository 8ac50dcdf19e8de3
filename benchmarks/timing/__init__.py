"""How long the searches of :mod:`benchmarks.scale` take, one command each."""
