"""How much of an uploaded data set is taken into memory; what is larger is refused before it is allocated."""

from __future__ import annotations

MAX_IMAGES = 5_000_000
# ImageNet-21k has 21,841 classes, whose names in words take half a megabyte. All of them are shown with the data set.
MAX_CLASSES = 65_536
MAX_CLASS_NAME_BYTES = 2 * 2**20  # all names together, as ASCII in JSON
MAX_MEMBERS = 2 * MAX_IMAGES  # folders and files that are no images come on top
MAX_IMAGE_PIXELS = 4096 * 4096
MAX_RESIZED_PIXELS = 4 * MAX_IMAGE_PIXELS  # before the middle is cut out
MAX_IMAGE_FILE_BYTES = 64 * 2**20
MAX_MEMBER_BYTES = 256 * 2**20  # of what is no image: the training images of CIFAR-100 are one file of 148 MiB
MAX_DECODED_BYTES = 16 * 2**30  # all pixels together, one byte per channel

# Deflate shrinks zeros a thousandfold; drawings in an uncompressed format come to a hundredth at best.
MAX_EXPANSION = 200  # unpacked bytes for each stored one
MIN_EXPANDED_BYTES = 128 * 2**20  # what any archive may unpack to
