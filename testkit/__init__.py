"""What tests, benchmarks and reliability tools share: cameras, processes, rigs, golden numbers. Not installed."""
