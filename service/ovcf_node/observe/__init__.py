"""What the node says about itself, without patient identity: `logging`."""
