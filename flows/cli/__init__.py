"""`caravan …`: the commands, and how they show what they found."""
