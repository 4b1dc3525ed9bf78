"""From boxes to numbers: metrics, the benchmarks' rules, result files in other people's formats."""
