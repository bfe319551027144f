"""The command families, one module per family as the field groups them."""
