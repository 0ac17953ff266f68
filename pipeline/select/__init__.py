"""The parts of the select stage: domains and components, survivors, edits, the funnel. `pipeline/selection.py` puts them together."""
