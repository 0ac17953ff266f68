"""Parts of `scripts/build_sample_corpus.py`: packages in, the files of `examples/corpus` out."""
