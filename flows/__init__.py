"""Recipes, the whole graph, Prefect, launchers and the command line. The only importer of Prefect."""
