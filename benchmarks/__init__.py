"""What measures this software itself; run one by ``python -m benchmarks NAME``."""
