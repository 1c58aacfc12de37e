"""How demonstrations enter a step."""
