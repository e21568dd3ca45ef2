"""How fast Bluestreak is, measured beside what it can be compared with: `python -m benchmarks`."""
