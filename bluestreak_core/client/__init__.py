"""What needs no worker: starting workflows, looking at them, controlling them."""
