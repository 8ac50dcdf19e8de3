"""What proposals, rankings and measurements cost, and whether their plans say so."""
