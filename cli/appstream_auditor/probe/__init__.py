"""`probe`: asks an account's AppStream what the documentation leaves open, with calls that only read."""
