"""Tests of the redaction engine against a corpus of private and of ordinary values."""
