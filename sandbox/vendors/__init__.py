"""What stands in for the vendors: servers on 127.0.0.1 that check what each would check."""
