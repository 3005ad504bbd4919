"""Measure: before and after become numbers and pictures."""
