"""Exact searches whose products are made, sifted and compacted on another device, such as a GPU."""
