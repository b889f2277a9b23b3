"""Encoding a corpus in parts, by hand or by a scheduler that exists already."""
