"""What long work will cost, said before it begins, and how far it is."""
