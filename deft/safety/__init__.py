"""Whether models refuse what they should answer and answer what they should refuse, on XSTest-shaped prompt sets."""
