"""Bytes and truth: local folders and s3:// behind one small store, artifacts, tables, token shards, checkpoints."""
