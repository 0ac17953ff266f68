"""Domains: a classifier over general, math, code and multilingual, trained in the pipeline from labelled sources."""
