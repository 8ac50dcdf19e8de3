"""Effects in a context where few perturbations were measured, from contexts where many were."""
