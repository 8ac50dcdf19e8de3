"""How well forward models predict: simulated worlds, public screens, and protocols of others."""
