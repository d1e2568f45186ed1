"""What resources of every app are built of: views, rows as JSON, pages of a list, problems."""
