"""What a job says while it works: records, one a line, as text or JSON; progress, told by time, as lines or a bar; and a
file for Prometheus.

Results and warnings go to standard output; progress, notes and errors to standard error, with time and rank where that is no
terminal. All else asks this room to say something and does not know how it is said.
"""
