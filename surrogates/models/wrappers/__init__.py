"""Surrogates made of surrogates: calibrated, conformal, denoised, ensembles, the default."""
