"""Shifts in a known causal network: how near a target mean each policy comes, in simulated worlds."""

from benchmarks.causal_matching.command import main

main()
