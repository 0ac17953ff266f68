"""What stands and what does not, and why: the walk over the graph, and the runs that point at artifacts."""
