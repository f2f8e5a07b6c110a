"""SlimNets on its own ground: every table of the paper, and our recipes, through the service."""
