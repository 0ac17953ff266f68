"""Proofs of issue 5 (5, 8, 9 and 10 are not built): each prints its figures beside what is asked, and fails when a sabotage passes."""
