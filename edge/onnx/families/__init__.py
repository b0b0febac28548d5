"""Writers of the layers that only one family has: a module for each family that has any, by the name of its folder."""
