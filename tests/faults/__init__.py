"""What a caller sees when files, locks and processes misbehave."""
