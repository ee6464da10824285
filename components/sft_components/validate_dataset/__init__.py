"""Check data sets against the rules of the model, convert and split them."""
