"""What another experiment is worth: gains, draws and batches."""
