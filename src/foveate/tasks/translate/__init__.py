"""Task translate: sentences of one language into another, by a Transformer."""
