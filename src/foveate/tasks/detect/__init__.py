"""Task detect: boxes of the objects in pictures, and their masks, out of COCO json."""
