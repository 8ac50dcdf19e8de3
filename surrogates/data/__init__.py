"""What was measured: perturbations, screens, and how to read them."""
