"""Tuning data sets: their formats, their rules, and reading, checking, converting, splitting."""
