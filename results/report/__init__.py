"""A run as one page that is read in a browser, offline and on a phone, and its twin in Markdown."""
