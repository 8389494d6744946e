"""The published methods, one file each: how a method trains its network and makes maps with it."""
