"""What is asked for: the recipe and where it runs, read and checked before any work."""
