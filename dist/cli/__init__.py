"""The command line. It imports the other folders, and none of them imports it."""
