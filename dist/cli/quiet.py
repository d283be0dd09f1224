"""Importing this, before the libraries, keeps their notes to their own developers out of a user's terminal."""

from ..console import silence_libraries

silence_libraries()
