"""What wrong inputs, wrong results and damaged stores do."""
