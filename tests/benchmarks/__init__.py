"""How long things take: commands that print figures, and assert none."""
