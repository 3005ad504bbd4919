"""Nodes of photographs."""
