"""Run the study."""

from benchmarks.causal_matching.command import main

main()
