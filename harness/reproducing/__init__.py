"""Experiments of papers, run again: what they published beside what is measured here."""
