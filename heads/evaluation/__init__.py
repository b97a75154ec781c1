"""How heads are judged: tasks, metrics, cross-validation and sweeps."""
