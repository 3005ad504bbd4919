"""What makes the weights, directions and pictures that ship with the pack.

Run from the root as ``python -m scripts.NAME``.
"""
