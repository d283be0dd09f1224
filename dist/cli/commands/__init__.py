"""The commands that take more than a screen, a file each.

Those whose work ranks do resolve their job in one process; the function that follows is what every rank does with it.
"""
