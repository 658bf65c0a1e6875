"""The published layers, each with what its copies get wrong."""
