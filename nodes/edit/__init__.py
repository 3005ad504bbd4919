"""Edit, by what is edited."""
