"""The report: one HTML page that shows what happened to every document on the way to the checkpoint, and what came out."""
