"""Looking inside a model: features, attention, figures, and the page that shows them."""
