"""What is handed out: adapter and merged-model folders, their cards, and who can load them."""
