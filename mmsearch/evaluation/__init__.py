"""Measures search quality: judged queries from a file, and the metrics of their ranks with intervals."""
