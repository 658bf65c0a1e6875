"""The task of detecting in slices of volumes: lesions with boxes and masks, by Mask R-CNN and attention over a bag."""
