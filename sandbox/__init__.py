"""The local cloud: AWS in two local processes, an AppStream of our own, and a working day to play in it."""
