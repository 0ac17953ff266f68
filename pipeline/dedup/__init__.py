"""Deduplication: documents in, a table of clusters and the spans of repeated lines out. Read stage.py first."""
