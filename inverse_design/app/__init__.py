"""A local web page for campaigns, on the same store as the command line."""
