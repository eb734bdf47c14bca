"""The court: preflight, running attacks, judging success, columns and verdict words."""
