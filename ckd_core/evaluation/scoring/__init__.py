"""From boxes to numbers: metrics, the benchmarks' rules, result files as others write them."""
