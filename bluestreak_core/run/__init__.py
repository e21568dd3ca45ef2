"""One claimed workflow while it runs: its handler, its context, its lease, its end."""
