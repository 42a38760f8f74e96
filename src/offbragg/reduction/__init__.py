"""Rotation images to maps, and maps to images."""
