"""Reading files: HDF5 (open `handles`, also of growing files; chunks are decoded by `chunks`), TIFF, JPEG and .npy."""
