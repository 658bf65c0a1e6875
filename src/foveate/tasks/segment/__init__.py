"""The task `segment`: a class for every voxel of a volume, or pixel of a picture."""
