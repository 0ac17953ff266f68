"""What happened to a document, which steps saw it, and what no run needs."""
