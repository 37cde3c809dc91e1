"""How well a library answers: judged queries from a file, and the metrics of their ranks with intervals."""
