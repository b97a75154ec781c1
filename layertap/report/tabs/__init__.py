"""What the tabs of a run's page show, beside its scores and its mistakes."""
