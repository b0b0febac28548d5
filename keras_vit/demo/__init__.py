"""`keras-vit demo`: the whole way on a small data set, with a report."""
