"""What a sample is and where it comes from. Imports neither ``model`` nor ``dist``."""
