"""Training and adapting towers: losses, memories and the loop over them."""
