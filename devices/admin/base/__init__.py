"""What admins of every app are built of: lists, forms, actions, histories, pages of their own."""
