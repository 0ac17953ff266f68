"""Quality: signals of a document (score) and the decision over them (keep), two pure functions; the stage writes signals only."""
