"""What a store on a server needs, and does not have to write itself."""
