"""The ten proofs of issue 5: each prints its figures beside what is asked, and fails when they fall short or when its sabotage passes."""
