"""The compare room."""
