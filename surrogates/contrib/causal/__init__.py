"""Sparse causal graphs of readouts learnt from interventions."""
