"""A session as zarr-python sees it: keys and the bytes under them."""
