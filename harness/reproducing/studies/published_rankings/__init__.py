"""Published tables, analysed again."""
