"""Features, attention and figures of a model, and a page that shows them."""
