"""Launch files carried out or looked into, on the real launch or on a stand-in."""
