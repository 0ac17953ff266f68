"""Raw files in, documents out: a reader per format, HTML to text, charsets, languages, ids and places. RULES 1 to 5."""
