"""How the small models that ship with the package were made."""
