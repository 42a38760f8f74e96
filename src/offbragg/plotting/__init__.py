"""Figures on matplotlib, used by reports."""
