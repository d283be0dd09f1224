"""What people look at: the HTML report of a run, its figures, and tables in a terminal."""
