"""What an edit changed, in numbers and in pictures."""
