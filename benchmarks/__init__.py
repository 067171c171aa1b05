"""Speed measurements: `python -m benchmarks.NAME [--json]` (docs/performance.md)."""
