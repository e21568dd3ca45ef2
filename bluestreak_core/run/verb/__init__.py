"""What the verbs of a context do: a function each, over the `frame` that they share.

Those with branches are in `structure`.
"""
