"""The protocol of a store, and what comes with it."""
