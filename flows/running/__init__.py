"""Who runs the graph: Prefect, workers of this machine, a launcher for training."""
