"""The surgery room."""
