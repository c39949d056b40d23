"""Bodies that went wrong on the way: mutations of real shapes, sent through the door, decoded, folded and written."""
