"""What the tests of several folders share; none imports from another's."""
