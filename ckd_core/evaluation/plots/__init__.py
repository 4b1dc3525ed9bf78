"""Figures for papers: drawn from runs, raw results, weights and training runs, as PNG, PDF and the CSV behind them."""
